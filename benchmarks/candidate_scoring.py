"""How much faster candidates are scored over a shared prefix than each by itself; LoRA steps; loading.

    python benchmarks/candidate_scoring.py [--base-model smollm2] [--names 10,60,400] [--device cuda] [--out FILE.json]

Processor time of the fastest of some tries; on a GPU, time by the clock. The naive way is timed on 5 of the names, and
scaled to all: it does the same for each. Names are made of the verbs and things of action recognition, one to four
words long, as those of NTU RGB+D are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from skag.lm.causal import CausalModel, load_causal
from skag.lm.config import LoraSettings
from skag.lm.lora import add_lora, trained
from skag.lm.names import CACHE
from skag.lm.prompts import answer_loss, assemble, compose
from skag.lm.score import Candidates, candidate_log_likelihoods, naive_log_likelihoods

VERBS = (
    "drink",
    "eat",
    "brush",
    "drop",
    "pick",
    "throw",
    "sit",
    "stand",
    "clap",
    "read",
    "write",
    "tear",
    "put",
    "take",
    "kick",
    "wave",
    "point",
    "shake",
    "nod",
    "rub",
)
THINGS = (
    "water",
    "meal",
    "teeth",
    "hair",
    "down",
    "up",
    "paper",
    "a jacket",
    "a shoe",
    "a hat",
    "the glasses",
    "hands",
    "the head",
    "a phone",
    "a bag",
    "the face",
    "a ball",
    "the back",
    "a knife",
    "a chair",
)
PROMPT = "Given a sequence of action tokens {tokens}, please predict the corresponding action."
TOKENS = 16


def action_names(count: int) -> list[str]:
    every = [f"{verb} {thing}" for verb in VERBS for thing in THINGS]
    return random.Random(0).sample(every, count)


def fastest(work: Callable[[], object], tries: int, device: torch.device) -> float:
    """Seconds of processor time; on a GPU, by the clock until it has done its work."""
    seconds = []
    for _ in range(tries):
        start = clock(device)
        work()
        seconds.append(clock(device) - start)
    return min(seconds)


def clock(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def scoring(model: CausalModel, count: int, tries: int) -> dict[str, float]:
    names = action_names(count)
    candidates = Candidates.of(model, names)
    vectors = (torch.randn(TOKENS, model.width, generator=torch.Generator().manual_seed(0)) * 0.1).to(model.device)
    prefix = assemble(model, [compose(PROMPT, {"tokens": vectors})])
    some = Candidates.of(model, names[:: max(1, count // 5)][:5])
    with torch.inference_mode():
        difference = (candidate_log_likelihoods(model, prefix, some) - naive_log_likelihoods(model, prefix, some)).abs()
        fast = fastest(lambda: candidate_log_likelihoods(model, prefix, candidates), tries, model.device)
        slow = (
            fastest(lambda: naive_log_likelihoods(model, prefix, some), tries, model.device) / len(some.texts) * count
        )
    return {
        "names": count,
        "tokens of the prompt": int(prefix.lengths[0]),
        "seconds": fast,
        "seconds, naive": slow,
        "ratio": slow / fast,
        "largest difference": float(difference.max()),
    }


def lora_step(model: CausalModel, batch: int, tries: int) -> dict[str, float]:
    """A training step of LLM-AR's prompt with 16 codes: rank 64 on q and v."""
    adapted = add_lora(model, LoraSettings())
    adapted.network.train()
    optimiser = torch.optim.AdamW(trained(adapted.network), lr=1e-4)
    names = action_names(batch)

    def step() -> None:
        vectors = (torch.randn(batch, TOKENS, model.width) * 0.1).to(model.device)
        inputs = assemble(adapted, [compose(PROMPT, {"tokens": each}) for each in vectors], [f" {n}" for n in names])
        loss, tokens = answer_loss(adapted, inputs)
        optimiser.zero_grad()
        (loss / tokens).backward()
        optimiser.step()

    seconds = fastest(step, tries, model.device)
    return {"batch": batch, "seconds": seconds, "steps a second": 1 / seconds, "clips a second": batch / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="smollm2")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--names", default="10,60,400")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time(), time.perf_counter()
    model = load_causal(given.base_model, device=given.device, cache=given.cache, tell=print)
    found = {
        "command": " ".join(["python", "benchmarks/candidate_scoring.py", *sys.argv[1:]]),
        "machine": {"threads": 1, "load": os.getloadavg()[0], "torch": torch.__version__},
        "loading": {
            "seconds of processor": time.process_time() - start[0],
            "seconds by the clock": time.perf_counter() - start[1],
            "largest resident memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        },
        "scoring": [scoring(model, int(count), given.tries) for count in given.names.split(",")],
        "lora": lora_step(model, given.batch, given.tries),
    }
    print(text := json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
