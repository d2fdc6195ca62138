"""Faults on purpose: killed processes, full disks, flipped bits and broken input. `python -m tests.faults --help`."""
