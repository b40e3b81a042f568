"""Testing: a small corpus in memory, and contracts that a store, source, step, rule or model of your own must pass.

The names are lazy, so that importing this package loads neither pytest nor torch; only the contracts need pytest.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# name → the module that holds it; PEP 562
_PUBLIC = {
    "ModelContract": "stoker.testing.contracts.model",
    "RuleContract": "stoker.testing.contracts.rule",
    "SourceContract": "stoker.testing.contracts.source",
    "StepContract": "stoker.testing.contracts.step",
    "StoreContract": "stoker.testing.contracts.store",
    "decide": "stoker.testing.deciding",
    "sample_corpus": "stoker.testing.corpus",
}
__all__ = [
    "ModelContract",
    "RuleContract",
    "SourceContract",
    "StepContract",
    "StoreContract",
    "decide",
    "sample_corpus",
]

if TYPE_CHECKING:
    from stoker.testing.contracts.model import ModelContract
    from stoker.testing.contracts.rule import RuleContract
    from stoker.testing.contracts.source import SourceContract
    from stoker.testing.contracts.step import StepContract
    from stoker.testing.contracts.store import StoreContract
    from stoker.testing.corpus import sample_corpus
    from stoker.testing.deciding import decide


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker.testing' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
