"""Training: pictures on the device, crops of them, the step, its optimizers and schedules, and runs on disk.

``trainer`` is where to begin reading. Importing this package imports no torch, so that ``gsr train --help`` is quick.
"""
