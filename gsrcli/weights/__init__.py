"""Trained weights: which there are, where they are kept, and models made of them.

The way of a name: ``load.load_model(name)`` takes ``store.Store().entry(name)``, whose ``locate()`` finds or fetches
the checkpoint, and reads that. ``catalog`` reads weights.toml; ``checkpoint`` reads and writes our files, and
``convert`` makes them of released ones, whose tensors ``released`` knows.
"""
