"""Enlarging a picture by a model: how large, in which tiles and strips, by way of which device."""
