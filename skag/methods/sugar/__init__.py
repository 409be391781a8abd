"""SUGAR (arXiv 2511.10091): descriptions shape the encoder, and a language model names the action from its tokens."""
