"""Recordings of body joints: layouts, the skeleton store, transforms, clips for a network, and what is measured."""
