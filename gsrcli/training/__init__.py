"""Training: images on the device, patches of them, the step, its optimizers and schedules, and runs on disk.

Start reading at ``trainer``. Importing this package does not import torch, so ``gsr train --help`` is quick.
"""
