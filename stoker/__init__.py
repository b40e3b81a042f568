"""Stoker collects training data, cleans it, publishes it in versions, and streams it into training.

Public names are imported at first use: `import stoker` loads neither torch nor Prefect.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from stoker import old_paths
from stoker.release import __version__

# public name → its module, imported by __getattr__ (PEP 562)
_PUBLIC = {
    "Manifest": "stoker.storage.versions.manifest",
    "Sample": "stoker.storage.shards.sample",
    "ShardStream": "stoker.training",
    "StokerError": "stoker.storage.errors",
    "Store": "stoker.storage.stores.store",
    "Version": "stoker.storage.versions.version",
    "corpora": "stoker.storage.versions.version",
    "forget": "stoker.pipelines.stages.forgetting.forget",
    "load_manifest": "stoker.storage.versions.manifest",
    "open_store": "stoker.storage",
    "purge": "stoker.pipelines.stages.forgetting.purge",
    "version": "stoker.storage.versions.version",
}
__all__ = [
    "Manifest",
    "Sample",
    "ShardStream",
    "StokerError",
    "Store",
    "Version",
    "__version__",
    "corpora",
    "forget",
    "load_manifest",
    "open_store",
    "purge",
    "version",
]

if TYPE_CHECKING:
    from stoker.pipelines.stages.forgetting.forget import forget
    from stoker.pipelines.stages.forgetting.purge import purge
    from stoker.storage import open_store
    from stoker.storage.errors import StokerError
    from stoker.storage.shards.sample import Sample
    from stoker.storage.stores.store import Store
    from stoker.storage.versions.manifest import Manifest, load_manifest
    from stoker.storage.versions.version import Version, corpora, version
    from stoker.training import ShardStream


old_paths.install()


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stoker' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
