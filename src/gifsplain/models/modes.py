"""Modes of torch that the caller's process may be in: explaining and loading have their own, and leave the caller's."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_HALF = (torch.float16, torch.bfloat16)
_LOADING = threading.RLock()
"""The default type of numbers belongs to the process: one at a time."""


@contextmanager
def explaining(device: torch.device, *networks: torch.nn.Module) -> Iterator[None]:
    """Gradients on, inference mode and autocast off, new tensors on the CPU unless said otherwise.

    Under `torch.no_grad()` there would be no direction, and under autocast the frames would be bfloat16 while the record
    says float32. Autocast stays on for networks in half precision, which the caller may run by it.
    """
    half = any(value.dtype in _HALF for net in networks for value in net.parameters())
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if not half:
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def loading(device: torch.device) -> Iterator[None]:
    """Networks made inside are float32 on `device` and can be differentiated; the global random state stays as it was.

    Making a network draws random weights, which the stored ones then replace.
    """
    with ExitStack() as stack:
        stack.enter_context(_LOADING)
        before = torch.get_default_dtype()
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        if device.type != "cpu" or torch.get_default_device().type != "cpu":
            stack.enter_context(device)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
