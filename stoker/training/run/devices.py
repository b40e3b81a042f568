"""Where to compute."""

import importlib.util

import torch

from stoker.training.errors import TrainingError


def device_of(name: str = "auto") -> torch.device:
    """The device of a name, or the best there is: cuda, mps, xla where torch_xla is installed, cpu.

    Raises TrainingError when the named one is not there.
    """
    if name == "auto":
        name = _best()
    if name == "xla":
        if importlib.util.find_spec("torch_xla") is None:
            raise TrainingError("device 'xla': torch_xla is not installed; there are: " + ", ".join(available()))
        import torch_xla  # type: ignore[import-not-found,unused-ignore]  # installed on TPU machines alone

        device: torch.device = torch_xla.device()
        return device
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        first = (str(error).splitlines() or ["not usable"])[0][:120]
        raise TrainingError(f"device {name!r}: {first}; there are: {', '.join(available())}") from None
    return found


def available() -> list[str]:
    """The devices that can be used here, best first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    if importlib.util.find_spec("torch_xla") is not None:
        found.append("xla")
    return [*found, "cpu"]


def _best() -> str:
    return available()[0]
