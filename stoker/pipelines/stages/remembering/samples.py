"""The samples of a corpus that a source which lists nothing leaves out: from all that the ledger knows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.unchanged import NO_REVISION
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import hashes_of


def newest_samples(
    rows: pa.Table, recipe: str
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The hashes, stamps (0: none) and revisions of kept candidates, sorted by hash, from all definite outcomes."""
    revisions = pc.fill_null(rows["revision"], NO_REVISION).to_numpy()
    hashes = rows["hash"].to_numpy()
    order = np.lexsort((rows["at"].cast(pa.int64()).to_numpy(), revisions, hashes))
    newest = order[np.append(hashes[order][1:] != hashes[order][:-1], True)[: len(order)]]
    is_held = pc.and_(pc.equal(rows["class"], KEPT), pc.equal(rows["recipe"], recipe)).to_numpy()
    newest = newest[is_held[newest]]
    stamps = np.zeros(len(newest), np.uint64)
    told = rows["stamp"].take(pa.array(newest))
    with_stamp = pc.is_valid(told).to_numpy()
    stamps[with_stamp] = hashes_of("", told.drop_null().to_pylist())
    return hashes[newest], stamps, revisions[newest]
