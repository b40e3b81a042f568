"""Old names of public methods, which still work for one minor version, and warn."""

import warnings
from collections.abc import Callable
from typing import Any


def renamed(old: str, new: str) -> Callable[..., Any]:  # Any: as the method under its new name
    """A method that warns and calls the one named ``new``.

    >>> class Stream:
    ...     def advance(self) -> str: return "advanced"
    ...     step = renamed("step", "advance")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     print(Stream().step(), caught[0].message)
    advanced Stream.step is called advance now; the old name goes with the next minor version
    """

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", new, stacklevel=3)
        return getattr(self, new)(*arguments, **options)

    call.__name__ = old
    call.__doc__ = f"Old name of ``{new}``."
    return call


def warn_renamed(old: str, new: str, *, stacklevel: int) -> None:
    """Warn that a name is an old one."""
    warnings.warn(
        f"{old} is called {new} now; the old name goes with the next minor version",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
