"""Language models inside the process: a frozen base model that is adapted, scores candidates and answers.

    names.py      what a base model's name stands for: a folder, a GGUF file, the hub, the embedded one   (no torch)
    config.py     the section `lm` of a method's configuration                                            (no torch)
    estimate.py   how much memory training or answering takes, and how long a step                        (no torch)
    gguf.py       a GGUF file, dequantised once into a folder of the cache
    causal.py     load, freeze; text to tokens and back
    prompts.py    text with slots for vectors, in batches; cross-entropy on the answers
    lora.py       adapt with LoRA; save, load and merge adapters
    score.py      log-likelihoods of candidates after a prefix that is computed once
    grammar.py    JSON schemas as grammars                                                                (no torch)
    reuse.py      prompts that were read, and conversations kept so that they are not read again
    generate.py   answers, free or held to candidates or to a JSON schema
    spread.py     several processes: gradients added up, weights in shards

The order of imports is that of the list. All but the first three need the extra `skag[lm]`.
"""
