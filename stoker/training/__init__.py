"""Training: a pinned version as a stream of batches, models, and a training loop that can stop and resume anywhere.

It reads a version from storage and needs nothing of the pipelines that made it. The names are loaded when they are
used, so importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# name → the module that holds it; PEP 562
_PUBLIC = {
    "Batches": "stoker.training.loader.loader",
    "DocumentStream": "stoker.training.stream.documents",
    "Documents": "stoker.training.stream.documents",
    "Loader": "stoker.training.loader.loader",
    "MixedStream": "stoker.training.stream.mixing",
    "PictureMaker": "stoker.training.pictures.pictures",
    "Pictures": "stoker.training.pictures.pictures",
    "Samples": "stoker.training.reading.samples",
    "ShardStream": "stoker.training.stream.stream",
    "TextStream": "stoker.training.stream.text",
    "Tokens": "stoker.training.stream.tokens",
    "TrainOptions": "stoker.training.run.options",
    "TrainingError": "stoker.training.errors",
    "gradient_scale": "stoker.training.run.distributed",
    "hold_out": "stoker.training.stream.subset",
    "padded": "stoker.training.run.distributed",
    "rank_and_world": "stoker.training.run.distributed",
    "study": "stoker.training.studies.study",
    "train": "stoker.training.run.train",
}
__all__ = [
    "Batches",
    "DocumentStream",
    "Documents",
    "Loader",
    "MixedStream",
    "PictureMaker",
    "Pictures",
    "Samples",
    "ShardStream",
    "TextStream",
    "Tokens",
    "TrainOptions",
    "TrainingError",
    "gradient_scale",
    "hold_out",
    "padded",
    "rank_and_world",
    "study",
    "train",
]

if TYPE_CHECKING:
    from stoker.training.errors import TrainingError
    from stoker.training.loader.loader import Batches, Loader
    from stoker.training.pictures.pictures import PictureMaker, Pictures
    from stoker.training.reading.samples import Samples
    from stoker.training.run.distributed import gradient_scale, padded, rank_and_world
    from stoker.training.run.options import TrainOptions
    from stoker.training.run.train import train
    from stoker.training.stream.documents import Documents, DocumentStream
    from stoker.training.stream.mixing import MixedStream
    from stoker.training.stream.stream import ShardStream
    from stoker.training.stream.subset import hold_out
    from stoker.training.stream.text import TextStream
    from stoker.training.stream.tokens import Tokens
    from stoker.training.studies.study import study


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker.training' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
