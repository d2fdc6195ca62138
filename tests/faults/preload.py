"""What the process that forks all children has loaded."""

import os

import jinja2  # noqa: F401
import pandas  # noqa: F401
import torch

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

from tests.faults import operations  # noqa: E402

operations.warm_up()
