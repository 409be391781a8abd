"""LLM-AR (Qu et al., CVPR 2024): clips become sentences of learned action words, and a language model reads them."""
