"""Dialogues: asking, checking, keeping, exchanging and replaying what a language model says of classes."""
