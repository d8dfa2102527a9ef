"""The machine: devices, memory, timing and files. Knows nothing of pictures or models."""
