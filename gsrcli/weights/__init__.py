"""Trained weights: the catalogue, the folder that keeps them, and the models built from them.

``load.load_model(name)`` looks up ``store.Store().entry(name)``, whose ``locate()`` finds or downloads the checkpoint,
and reads it. ``catalog`` reads weights.toml, ``checkpoint`` reads and writes our files, and ``convert`` makes them from
released files by the tensor names in ``released``.
"""
