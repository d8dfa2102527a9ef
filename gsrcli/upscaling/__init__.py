"""Enlarge a picture with a model: choose the size, tiles and strips, and move pixels to and from the device."""
