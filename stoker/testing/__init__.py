"""Testing: a small corpus in memory, for the tests and examples of whoever uses Stoker.

The names are lazy, so that importing this package loads neither pytest nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# name → the module that holds it; PEP 562
_PUBLIC = {
    "sample_corpus": "stoker.testing.corpus",
}
__all__ = ["sample_corpus"]

if TYPE_CHECKING:
    from stoker.testing.corpus import sample_corpus


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker.testing' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
