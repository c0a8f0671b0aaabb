"""What all tests share: one thread per process and repeatable examples. Torch is left to the processes that run tests."""

import gc
import os

gc.disable()  # until all test modules are loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook  # noqa: E402

EXPLAIN = ("attribution", "checks", "drawn", "jobs", "latent_shift", "maps", "policies", "run", "strengths")
MODELS = ("backbones", "builtin", "networks", "prepare", "resample", "wrap", "xrv")
CHECKED = [*(f"gifsplain.explain.{name}" for name in EXPLAIN), *(f"gifsplain.models.{name}" for name in MODELS)]
install_import_hook(CHECKED, "checked_types.typecheck")

from hypothesis import settings  # noqa: E402

settings.register_profile("gifsplain", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("gifsplain")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: no later garbage collection has to look through it."""
    gc.collect()
    gc.freeze()
    gc.enable()
