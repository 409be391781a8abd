"""skag: skeleton-based action recognition that asks a language model what tells look-alike actions apart.

    convert -> skeleton store -> transforms -> model -> losses -> train -> run folder -> evaluate -> analysis
                                                  ^                |
    selector (mask), text encoder (embeddings) ---+                v  every query period
             ^                                                 questioner
             |                                                     |
    dialogue store <- backends (Ollama, OpenAI-compatible, measured) <- prompts

Imports run one way: cli -> train, evaluate, analysis -> model and dialogue -> data -> layouts, errors.
"""

__version__ = "0.1.0"
