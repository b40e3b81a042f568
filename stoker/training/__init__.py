"""Training: a pinned version as a stream of batches, models, and a loop that stops and resumes anywhere.

Reads storage alone: a training job runs on a machine that never heard of the pipelines. The names are lazy, so that
importing this package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# name → the module that holds it; PEP 562
_PUBLIC = {
    "Batches": "stoker.training.loader",
    "DocumentStream": "stoker.training.documents",
    "Documents": "stoker.training.documents",
    "Loader": "stoker.training.loader",
    "MixedStream": "stoker.training.mixing",
    "PictureMaker": "stoker.training.pictures",
    "Pictures": "stoker.training.pictures",
    "Samples": "stoker.training.samples",
    "ShardStream": "stoker.training.stream",
    "TextStream": "stoker.training.text",
    "Tokens": "stoker.training.tokens",
    "TrainOptions": "stoker.training.options",
    "TrainingError": "stoker.training.errors",
    "gradient_scale": "stoker.training.distributed",
    "padded": "stoker.training.distributed",
    "rank_and_world": "stoker.training.distributed",
    "train": "stoker.training.loop",
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
    "padded",
    "rank_and_world",
    "train",
]

if TYPE_CHECKING:
    from stoker.training.distributed import gradient_scale, padded, rank_and_world
    from stoker.training.documents import Documents, DocumentStream
    from stoker.training.errors import TrainingError
    from stoker.training.loader import Batches, Loader
    from stoker.training.loop import train
    from stoker.training.mixing import MixedStream
    from stoker.training.options import TrainOptions
    from stoker.training.pictures import PictureMaker, Pictures
    from stoker.training.samples import Samples
    from stoker.training.stream import ShardStream
    from stoker.training.text import TextStream
    from stoker.training.tokens import Tokens


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker.training' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
