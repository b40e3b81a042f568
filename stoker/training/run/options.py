"""The options of a training run, checked."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stoker.training.errors import TrainingError


@dataclass(frozen=True)
class TrainOptions:
    """How to train, whatever the model. A value of 0 that says "the model's own" is replaced by the model's."""

    epochs: int = 10
    batch_size: int = 64  # samples, or rows of text
    optimiser: Literal["adamw", "adam", "rmsprop", "sgd"] = "adamw"
    learning_rate: float = 0.003
    momentum: float = 0.9  # of sgd and rmsprop
    weight_decay: float = 0.01
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    warmup: float = 0.05  # share of all steps in which the learning rate rises from 0
    clip: float = 1.0  # norm of the gradient, at most; 0: not clipped
    split: str = "train"
    held_out: str = ""  # split to evaluate on; "": validation, or else any other one
    seed: int = 0
    device: str = "auto"
    threads: int = 0  # of torch on the CPU; 0: torch's own choice. Exact resumption holds for one number of threads
    workers: int = 2  # threads that read and decode; 0: the training loop does it
    checkpoint_s: float = 30.0  # seconds between checkpoints
    keep: int = 2  # checkpoints, beside the best
    max_steps: int = 0  # 0: all of the epochs

    def __post_init__(self) -> None:
        least: dict[str, float] = {"epochs": 1, "batch_size": 1, "keep": 1}
        for name in ("learning_rate", "momentum", "weight_decay", "warmup", "clip", "workers", "threads", "max_steps"):
            least[name] = 0
        for name, bound in least.items():
            if not getattr(self, name) >= bound:  # so that NaN is refused too
                raise TrainingError(f"option {name} = {getattr(self, name)!r}; expected {bound:g} or more")
        if self.learning_rate == 0 or self.warmup > 1:
            raise TrainingError("option learning_rate must be above 0, and warmup a share of at most 1")


def make(model: str, given: Mapping[str, Any]) -> "tuple[Any, TrainOptions]":  # Any: texts or JSON values; a Model
    """The model and the options of a run from names and values; each name belongs to one of the two.

    Raises TrainingError for an unknown name, with the nearest right one, and for a value that cannot be.
    """
    from stoker.training.run import model as models

    made = models.find(model)
    own = models.options_of(made)
    general = models.options_of(TrainOptions) | {
        name: (kind, getattr(made, "defaults", {}).get(name, default))
        for name, (kind, default) in models.options_of(TrainOptions).items()
    }
    chosen: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in given.items():
        if name in own:
            chosen["model"][name] = models.convert(model, name, own[name][0], value)
        elif name in general:
            chosen["train"][name] = models.convert("train", name, general[name][0], value)
        else:
            known = sorted({*own, *general})
            near = difflib.get_close_matches(name, known, n=1)
            what = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise TrainingError(f"neither training nor model {model!r} has an option {name!r}; {what}")
    defaults = {name: default for name, (_, default) in general.items()}
    return made(**chosen["model"]), TrainOptions(**defaults | chosen["train"])


def identity(model: str, built: Any, options: TrainOptions) -> dict[str, Any]:  # Any: a Model; JSON values
    """What makes two runs the same: not where they compute, nor how often they save."""
    free = ("device", "threads", "workers", "checkpoint_s", "keep")
    chosen = {name: value for name, value in dataclasses.asdict(options).items() if name not in free}
    return {"model": model, "options": dataclasses.asdict(built), "training": chosen}
