"""Studies: what methods of learning reached on a version. A study is written anew whenever one of its rows is done.

No version depends on it; `stoker study` measures again what is lost. Of two studies of one version at the same time
the rows of both are kept, but for those of one that ends between the other's reading and writing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.sealed import read_sealed, seal

SCHEMA = 1
_MAX_SIZE = 64 * 2**20  # bytes
_REMEDY = "`stoker study` measures it again"

Values = Mapping[str, Any]  # Any: JSON values


@dataclass(frozen=True, slots=True)
class Study:
    """The rows that were measured on a version, and the claims that they were measured for.

    A row has ``name``, ``method``, ``options``, ``training``, ``parameters``, ``multiplications`` and ``runs``, one for
    each seed: ``digest`` (what the run depends on), ``seed``, ``score`` and ``metrics``, ``cpu_s`` and ``seconds`` of
    training, ``test_cpu_s``, ``curve`` (step, loss), ``gradients`` (norm of each layer's at the first step),
    ``note`` and, of newer runs, ``machine``. A row that other code measured, or on other data, is ``outdated``: no
    claim is judged by it. A claim has ``name``, ``title``, ``rows``, ``verdict``, ``reason`` and ``expects``, each with
    ``text``, ``found`` and ``held``.
    """

    corpus: str
    version: int
    kind: str  # of layout.STUDIES
    content: str  # digest of the version
    measure: str  # what a score is: accuracy, or bits_per_character
    updated_at: str  # ISO 8601, UTC
    about: Values = field(default_factory=dict)  # data, machine and versions of libraries
    claims: Sequence[Values] = ()
    rows: Sequence[Values] = ()

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The study as JSON values."""
        return asdict(self)


def save_study(store: Store, study: Study) -> None:
    """Write a study in the place of the one before."""
    key = layout.study(study.corpus, study.version, study.kind)
    store.write(key, encode(study))


def load_study(store: Store, corpus: str, version: int, kind: str) -> Study | None:
    """A study; None if there is none. Raises CorruptShard, StorageRefused, StorageError."""
    key = layout.study(corpus, version, kind)
    try:
        document = read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE)
    except NotFound:
        return None
    study = Study(
        corpus=document.text("corpus"),
        version=document.whole("version"),
        kind=document.text("kind"),
        content=document.text("content"),
        measure=document.text("measure"),
        updated_at=document.text("updated_at"),
        about=document.mapping("about"),
        claims=tuple(claim.content for claim in document.documents("claims")),
        rows=tuple(row.content for row in document.documents("rows")),
    )
    if (study.corpus, study.version, study.kind) != (corpus, version, kind):
        raise CorruptShard(
            f"{store.url}/{key}: it is of {study.corpus[:80]}@{study.version}, {study.kind[:20]}; was it copied or "
            f"renamed? {_REMEDY}"
        )
    return study


def studies_of(store: Store, corpus: str, version: int) -> list[Study]:
    """The studies of a version. Raises as load_study does."""
    found = (load_study(store, corpus, version, kind) for kind in _kinds(store, corpus, version))
    return [study for study in found if study is not None]


def has_studies(store: Store, corpus: str, version: int) -> bool:
    """Whether a version has any study, whole or damaged."""
    return bool(_kinds(store, corpus, version))


def _kinds(store: Store, corpus: str, version: int) -> list[str]:
    prefix = layout.study(corpus, version, "").removesuffix(".json")
    named = (layout.study_of(stored.key) for stored in store.list(prefix))
    return [kind for number, kind in filter(None, named) if number == version]


def encode(study: Study) -> bytes:
    """The object of a study."""
    return seal(study.to_json() | {"schema": SCHEMA})
