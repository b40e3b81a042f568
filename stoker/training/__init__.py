"""Training: a pinned version as a stream of batches, models, and a loop that stops and resumes anywhere.

Reads storage alone: a training job runs on a machine that never heard of the pipelines. The names are lazy, so that
importing this package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# name → the module that holds it; PEP 562
_PUBLIC = {
    "Loader": "stoker.training.loader",
    "ShardStream": "stoker.training.stream",
    "TextStream": "stoker.training.text",
    "TrainOptions": "stoker.training.options",
    "TrainingError": "stoker.training.errors",
    "train": "stoker.training.loop",
}
__all__ = ["Loader", "ShardStream", "TextStream", "TrainOptions", "TrainingError", "train"]

if TYPE_CHECKING:
    from stoker.training.errors import TrainingError
    from stoker.training.loader import Loader
    from stoker.training.loop import train
    from stoker.training.options import TrainOptions
    from stoker.training.stream import ShardStream
    from stoker.training.text import TextStream


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker.training' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
