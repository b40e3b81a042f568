"""Rules over records, side by side with the same questions to DuckDB alone: processor seconds and their ratio.

    python tests/benchmarks/bench_curation.py [--records 1000000]

Rules are checked, in the order of age, and give decisions; DuckDB alone gives the keys that would be dropped, with one
thread as well. Both have the records in memory.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.where import Where
from stoker.pipelines.tables.deciding.decisions import decide
from stoker.pipelines.tables.deciding.tools import Tools

WHERE = "width >= 256 and licence like 'CC%'"
QUESTIONS: dict[str, tuple[Rule, str]] = {
    "where": (Where(WHERE), f"SELECT key FROM rows WHERE ({WHERE}) IS NOT TRUE ORDER BY key"),
    "exact_duplicates": (
        ExactDuplicates(),
        "SELECT key FROM (SELECT key, row_number() OVER (PARTITION BY content_sha256 ORDER BY age_rank) AS n "
        "FROM rows) WHERE n > 1 ORDER BY key",
    ),
}


def records(count: int) -> pa.Table:
    """Records of which a tenth are copies."""
    random = np.random.default_rng(1)
    keys = pa.array([f"{number:024x}" for number in random.permutation(count)])
    contents = pa.array([f"{number:064x}" for number in random.integers(0, count * 5, count)])
    licences = pa.array(["CC0-1.0", "CC-BY-4.0", "ours", None]).take(pa.array(random.integers(0, 4, count)))
    columns = {"key": keys, "group": keys, "split": pa.repeat("train", count), "part": pa.repeat("0" * 32, count)}
    columns |= {"is_elder": pa.array(np.zeros(count, np.bool_)), "age_rank": pa.array(np.arange(count))}
    columns |= {"content_sha256": contents, "label": pa.nulls(count, pa.string()), "licence": licences}
    return pa.table(columns | {"width": pa.array(random.integers(16, 2048, count))})


def decided(rule: Rule, table: pa.Table) -> int:
    """How many decisions a rule makes, checked as an ingest checks them."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = nullcontext(Path(folder))
        tools = partial(
            Tools, "bench", assign=lambda group: "train", read=lambda keys: iter(()), folder=lambda: scratch
        )
        return int(decide(rule, table, tools, ("train",)).num_rows)


def alone(table: pa.Table, query: str) -> int:
    """How many keys DuckDB gives."""
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.register("rows", table)
        return int(database.sql(query).to_arrow_table().num_rows)


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Processor seconds of the quicker of two runs, and what it gave."""
    runs = []
    for _ in range(2):
        began = time.process_time()
        answer = work()
        runs.append((time.process_time() - began, answer))
    return min(runs)


def measure(count: int) -> dict[str, tuple[float, float, int]]:
    """Of each question the seconds of Stoker and of DuckDB alone, and how many samples are dropped."""
    table, answers = records(count), {}
    for name, (rule, query) in QUESTIONS.items():
        ours, dropped = timed(partial(decided, rule, table))
        theirs, expected = timed(partial(alone, table, query))
        if dropped != expected:
            raise SystemExit(f"{name}: Stoker drops {dropped}, DuckDB alone {expected}")
        answers[name] = (ours, theirs, dropped)
    return answers


def main() -> None:
    """Print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    count = parser.parse_args().records
    for name, (ours, theirs, dropped) in measure(count).items():
        print(
            f"{name}: {count:,} records, {dropped:,} dropped: Stoker {ours:.2f} s, DuckDB alone {theirs:.2f} s", end=""
        )
        print(f", ratio {ours / theirs:.1f}")


if __name__ == "__main__":
    main()
