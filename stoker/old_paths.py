"""Module paths of version 0.1.0: importing one gives the module under its new path, and warns.

They work until the next minor version, for plug-ins that were written for 0.1.0. Names that moved out of a module whose
path stayed (it became a package) are found by that package's ``__getattr__``, which ``moved_names`` makes.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# new package: the modules that moved into it and kept their names
_ROOMS = {
    "stoker.pipelines.stages": "curate ingest measure pack publish scratch splits",
    "stoker.pipelines.tables": "hub url_entries url_lists",
    "stoker.pipelines.text": "languages",
    "stoker.storage.shards": "index records sample shard tar",
    "stoker.storage.stores": "directory key memory payload s3 store",
    "stoker.storage.verification": "verify",
    "stoker.storage.versions": "catalog document layout manifest",
    "stoker.training.loader": "batches",
    "stoker.training.pictures": "crops jpeg",
    "stoker.training.reading": "cache samples",
    "stoker.training.run": "checkpoint devices distributed metrics model optimisers options",
    "stoker.training.stream": "documents mixing order text tokens",
}
MOVED = {
    **{
        f"{room.rpartition('.')[0]}.{name}": f"{room}.{name}"
        for room, names in _ROOMS.items()
        for name in names.split()
    },
    "stoker.pipelines.image": "stoker.pipelines.images.codec",
    "stoker.pipelines.image_format": "stoker.pipelines.images.formats",
    "stoker.pipelines.image_hash": "stoker.pipelines.images.perceptual_hash",
    "stoker.pipelines.web.html": "stoker.pipelines.web.pages.html",
    "stoker.training.initialise": "stoker.training.networks.initialisation",
    "stoker.pipelines.web.licences": "stoker.pipelines.web.pages.licences",
}


class _OldPaths:
    """The last finder that Python asks, of a path that no other knows; and the loader of what it finds.

    It extends none of the classes in importlib.abc, whose import takes as long as all else of ``import stoker``.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old path, else None."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]  # see above

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: an empty module, which exec_module replaces."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new path under the old one, too."""
        old = module.__name__
        warnings.warn(f"{old} is now {MOVED[old]}; the old path will be removed", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(MOVED[old])


def install() -> None:
    """Make old paths importable; done once, when ``stoker`` is imported."""
    sys.meta_path.append(_OldPaths())


def moved_names(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """A package's ``__getattr__`` (PEP 562) for names that were its own when it was a module.

    Args:
        package: its name.
        names: the name of each and the module that has it now.
    """

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        text = f"{package}.{name} is now {names[name]}.{name}; the old path will be removed"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(names[name]), name)

    return find
