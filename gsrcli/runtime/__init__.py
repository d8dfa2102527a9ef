"""The machine below: its devices and memory, time, files. Knows nothing of pictures or models."""
