"""The samples of a corpus that a source which lists nothing leaves out: from all that the ledger knows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.unchanged import NO_REVISION
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import hashes_of


def newest_rows(rows: pa.Table) -> pa.Table:
    """The rows by which candidates are kept, sorted by hash, from all definite outcomes."""
    revisions = pc.fill_null(rows["revision"], NO_REVISION).to_numpy()
    hashes = rows["hash"].to_numpy()
    order = np.lexsort((rows["at"].cast(pa.int64()).to_numpy(), revisions, hashes))
    newest = order[np.append(hashes[order][1:] != hashes[order][:-1], True)[: len(order)]]
    newest = newest[pc.equal(rows["class"], KEPT).to_numpy()[newest]]
    return rows.take(pa.array(newest))


def told_by(kept: pa.Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The hashes, stamps (0: none) and revisions of ``newest_rows``."""
    stamps = np.zeros(kept.num_rows, np.uint64)
    with_stamp = pc.is_valid(kept["stamp"]).to_numpy()
    stamps[with_stamp] = hashes_of("", kept["stamp"].drop_null().to_pylist())
    return kept["hash"].to_numpy(), stamps, pc.fill_null(kept["revision"], NO_REVISION).to_numpy()
