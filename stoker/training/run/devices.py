"""The device to compute on, by name or the best that is there."""

import importlib.util

import torch

from stoker.training.errors import TrainingError


def device_of(name: str = "auto") -> torch.device:
    """The device of a name; for ``auto`` the first of cuda, mps, xla (with torch_xla installed) and cpu that is there.

    Raises TrainingError when the named device cannot be used.
    """
    if name == "auto":
        name = available()[0]
    if name == "xla":
        if importlib.util.find_spec("torch_xla") is None:
            raise TrainingError("device 'xla': torch_xla is not installed; there are: " + ", ".join(available()))
        import torch_xla  # type: ignore[import-not-found,unused-ignore]  # installed on TPU machines alone

        xla: torch.device = torch_xla.device()
        return xla
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["not usable"])[0][:120]
        raise TrainingError(f"device {name!r}: {reason}; there are: {', '.join(available())}") from None
    return device


def available() -> list[str]:
    """The names of devices that can be used here, best first."""
    names = []
    if torch.cuda.is_available():
        names.append("cuda")
    if torch.backends.mps.is_available():
        names.append("mps")
    if importlib.util.find_spec("torch_xla") is not None:
        names.append("xla")
    return [*names, "cpu"]
