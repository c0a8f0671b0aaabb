"""What all tests share: one thread per process and repeatable examples."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook

install_import_hook(["gifsplain.explain", "gifsplain.models"], "checked_types.typecheck")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("gifsplain", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("gifsplain")
