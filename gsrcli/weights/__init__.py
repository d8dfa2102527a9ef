"""Trained weights: which there are, where they are kept, and models made of them.

``load`` makes a model of a name or a path; ``catalog`` reads weights.toml; ``store`` keeps on this machine what it
fetched and what was imported; ``checkpoint`` reads and writes our files, ``convert`` makes them of released ones, whose
tensors ``released`` knows.
"""
