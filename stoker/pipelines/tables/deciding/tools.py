"""The tools of rules: SQL over their rows, search for near-duplicates, contents of samples."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import file_digest
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images import hamming, near_pairs
from stoker.pipelines.rule import PAIRS
from stoker.pipelines.tables.deciding import sql
from stoker.pipelines.tables.deciding.kept_pairs import HASH, QUALITY, KeptPairs, is_measured
from stoker.pipelines.text import verified
from stoker.pipelines.text.signatures import near_duplicates, parse_signatures
from stoker.storage.plain_file import open_plain
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.version import Version

_TEXT = "txt"  # the field that texts are measured by
_BATCH = 1024  # samples whose contents are looked up at a time


@dataclass(frozen=True)
class Tools:
    """What ``RuleTools`` promises, for one rule.

    Args:
        rule: its name, for messages.
        rows: what it is given.
        assign: the split of a group.
        read: the samples with these keys, in their order; KeyError for one that is not there.
        folder: makes one, and removes it again, for what does not fit into memory; only a query needs it.
        elders_stay: see RuleTools.
        root: the recipe's folder.
        store: of the corpus.
        splits, bound_keys: see RuleTools.
        pairs: of near-duplicate images among the corpus' samples.
    """

    rule: str
    rows: pa.Table
    assign: Callable[[str], str]
    read: Callable[[Sequence[str]], Iterator[Sample]]
    folder: Callable[[], AbstractContextManager[Path]]
    elders_stay: bool = False
    root: Path = Path()
    splits: Mapping[str, float] = field(default_factory=dict)
    bound_keys: Collection[str] = ()
    store: Store | None = None
    pairs: KeptPairs | None = None

    def split_of(self, group: str, /) -> str:
        """See RuleTools."""
        return self.assign(group)

    def sql(self, query: str, /, **named: object) -> pa.Table:
        """See RuleTools."""
        tables = {name: value for name, value in named.items() if isinstance(value, pa.Table)}
        values = {name: value for name, value in named.items() if name not in tables}
        try:
            with self.folder() as folder:
                return sql.select(query, {"rows": self.rows} | tables, values, folder=folder)
        except sql.BadQuery as error:
            raise RecipeError(f"rule {self.rule!r}: its SQL cannot be used: {error}") from error

    def near_duplicate_images(self, rows: pa.Table, *, distance: int = 31, min_quality: int = 50) -> pa.Table:
        """See RuleTools."""
        keys, hashes = rows["key"], rows[HASH]
        try:
            measured = np.flatnonzero(is_measured(rows, min_quality).to_numpy())
        except pa.ArrowException as error:
            raise RecipeError(f"rule {self.rule!r}: column {QUALITY!r} is not Stoker's: {error}") from error
        elders = self._elders(rows, measured)
        pairs = self.pairs.within(distance, min_quality) if self.pairs and self._are_own(hashes) else None
        if pairs is not None:
            found = near_pairs.near_duplicates(hashes.take(pa.array(measured)), pairs, distance, elders)
        else:
            try:
                words = hamming.parse_hashes(hashes.take(pa.array(measured)).to_pylist())
            except (ValueError, TypeError) as error:
                raise RecipeError(f"rule {self.rule!r}: column 'image_hash' is not Stoker's: {error}") from error
            found = hamming.near_duplicates(words, distance, elders=elders)
        near = list(found)
        ends = (measured[[one.index for one in near]], measured[[one.representative for one in near]])
        similarities = [1 - one.distance / hamming.BITS for one in near]
        names = (keys.take(pa.array(rows, pa.int64())) for rows in ends)
        return pa.table([*names, similarities, pa.repeat(False, len(near))], schema=PAIRS)

    def _are_own(self, hashes: pa.ChunkedArray) -> bool:
        """Whether these are hashes of samples that the rule was given: a plug-in may have others."""
        if HASH not in self.rows.column_names:
            return False
        given = self.rows[HASH]
        return bool(hashes.equals(given)) or pc.all(pc.is_in(hashes, value_set=given.unique()), min_count=0).as_py()

    def near_duplicate_texts(self, rows: pa.Table, *, similarity: float = 0.8, verify: bool = False) -> pa.Table:
        """See RuleTools."""
        keys, column = rows["key"].to_pylist(), rows["minhash"].to_pylist()
        measured = [row for row, signature in enumerate(column) if signature]
        try:
            signatures = parse_signatures([column[row] for row in measured])
        except ValueError as error:
            raise RecipeError(f"rule {self.rule!r}: column 'minhash' is not Stoker's: {error}") from error
        elders = self._elders(rows, measured)

        def read(chosen: Sequence[int]) -> Iterator[bytes | None]:
            return self.contents([keys[measured[row]] for row in chosen], _TEXT)

        found = (
            verified.near_duplicates(signatures, similarity, read, elders=elders)
            if verify
            else ((*near, False) for near in near_duplicates(signatures, similarity, elders=elders))
        )
        return _pairs((keys[measured[row]], keys[measured[older]], *how) for row, older, *how in found)

    def _elders(self, rows: pa.Table, chosen: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """How many of the chosen rows, from the first on, are kept whatever they are near to."""
        if not self.elders_stay or "is_elder" not in rows.column_names:
            return 0
        others = pc.index(rows["is_elder"].take(pa.array(chosen, pa.int64())), False).as_py()
        return len(chosen) if others < 0 else int(others)

    def contents(self, keys: Iterable[str], field: str) -> Iterator[bytes | None]:
        """See RuleTools."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _BATCH)):
            try:
                for sample in self.read(batch):
                    yield sample.fields.get(field)
            except KeyError as error:
                raise RecipeError(
                    f"rule {self.rule!r} asks for the content of {error.args[0]!r}, which the corpus does not hold"
                ) from error

    def version(self, reference: str, /) -> Version:
        """See RuleTools."""
        if self.store is None:
            raise RecipeError(f"rule {self.rule!r}: there is no store here that could hold {reference}")
        return Version(self.store, load_manifest(self.store, reference))

    def path(self, name: str, sha256: str, /) -> Path:
        """See RuleTools."""
        path = self.root / name
        try:
            with open_plain(path) as file:
                found = file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RecipeError(f"rule {self.rule!r}: {path} cannot be read: {error.strerror}") from None
        if found != sha256:
            raise RecipeError(
                f"rule {self.rule!r}: {path} has sha256 {found[:12]}, but the run began with {sha256[:12]}; run again"
            )
        return path


def _pairs(found: Iterable[tuple[str, str, *tuple[object, ...]]]) -> pa.Table:
    columns = zip(*found, strict=True)
    return pa.table(dict(zip(PAIRS.names, columns, strict=False)) or {name: [] for name in PAIRS.names}, schema=PAIRS)
