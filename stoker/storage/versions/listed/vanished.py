"""Candidates of raw parts that a version leaves out because their source has them no more: told as rejects."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.versions.listed.named import Part
from stoker.storage.versions.memory.outcome_class import VANISHED


def tell_vanished(records: pa.Table, part: Part) -> pa.Table:
    """The records of a part, in which those candidates have the reason VANISHED, by their source; all rows are there.

    ``records``: all rows, with ``reason``; ``step`` and ``source`` where they are asked for.
    """
    if not part.vanished:
        return records
    flags = np.zeros(records.num_rows, np.bool_)
    flags[list(part.vanished)] = True
    told = {"reason": VANISHED}
    if {"step", "source"} <= set(records.column_names):
        told["step"] = records["source"].cast(pa.string())
    for name, value in told.items():
        column = pc.if_else(pa.array(flags), value, records[name].cast(pa.string()))
        records = records.set_column(records.schema.get_field_index(name), name, column)
    return records
