"""Old names of a model's methods and of the types they use; each warns with DeprecationWarning."""

import warnings
from functools import cache
from typing import Any

_METHODS = {"learn": "prepare", "feed": "data", "outcome": "compute_loss", "sample": "generate"}


def warn(old: str, new: str) -> None:
    """Warn the caller's caller that a name was renamed."""
    warnings.warn(f"{old} is now called {new}; the old name will be removed", DeprecationWarning, stacklevel=3)


def has_loss(model: type) -> bool:
    """Whether a class is a model: it computes a loss, under the new or the old name."""
    return hasattr(model, "compute_loss") or hasattr(model, "outcome")


def add_new_methods(model: type) -> None:
    """Give a model that defines old method names the new ones too.

    The methods are added to the class itself: instances of a subclass made here could not be pickled.
    """
    for old, new in _METHODS.items():
        # The nearest definition counts: a subclass may define the old name over a base that has the new one.
        nearest = next((base for base in model.__mro__ if old in vars(base) or new in vars(base)), None)
        if nearest is not None and new not in vars(nearest):
            warn(f"{model.__module__}.{model.__qualname__}.{old}", new)
            setattr(model, new, vars(nearest)[old])


@cache
def outcome_class(step_output: type[Any]) -> type[Any]:  # Any: StepOutput, which this module cannot import
    """StepOutput with the field ``state`` under its old name ``carried``."""

    class Outcome(step_output):  # type: ignore[misc]  # a class that only the caller knows
        __slots__ = ()

        def __init__(self, loss: Any, examples: int, carried: tuple[Any, ...] = ()) -> None:  # Any: tensors
            super().__init__(loss, examples, carried)

        @property
        def carried(self) -> tuple[Any, ...]:  # Any: tensors
            return tuple(self.state)

    return Outcome
