"""The formats of `stoker export`, and what each needs: known without torch, which takes seconds to load."""

import importlib.util
from pathlib import Path
from typing import Literal

from stoker.storage.errors import StokerError
from stoker.training.errors import TrainingError

Format = Literal["safetensors", "onnx", "torch"]
SUFFIXES: dict[str, str] = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
_PACKAGES = {"safetensors": ("safetensors",), "onnx": ("onnx", "onnxscript"), "torch": ()}


def check_format(kind: Format, path: Path | None) -> None:
    """Refuse a format whose packages are not installed, and a file that is there. Raises StokerError."""
    missing = [name for name in _PACKAGES[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise StokerError(f'format {kind} needs {", ".join(missing)}; pip install "stoker[export]"')
    if path is not None and path.exists():
        raise TrainingError(f"{path}: exists already; name a new file")
