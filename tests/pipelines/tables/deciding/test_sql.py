"""SQL over tables in memory: it sees these and nothing else, and its faults are one line."""

import os
import traceback
from pathlib import Path

import pyarrow as pa
import pytest

from stoker.pipelines.tables.deciding import sql
from stoker.pipelines.tables.deciding.sql import BadQuery, select

TABLE = pa.table({"key": ["b", "a", "c"], "n": [1, 2, 3], "none": pa.nulls(3, pa.string())})


def ask(query: str, folder: Path = Path(), **values: object) -> pa.Table:
    return select(query, {"rows": TABLE}, values, folder=folder)


def test_a_query_has_its_tables_and_its_values() -> None:
    other = pa.table({"key": ["c", "b"]})
    query = "SELECT rows.key, n FROM rows JOIN other USING (key) WHERE n > $least ORDER BY key"
    found = select(query, {"rows": TABLE, "other": other}, {"least": 1}, folder=Path())
    assert found.to_pylist() == [{"key": "c", "n": 3}]
    assert found.schema == pa.schema([("key", pa.string()), ("n", pa.int64())])


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("SELECT nothing FROM rows ORDER BY key", 'column "nothing" not found'),
        ("SELEKT", "syntax error"),
        ("SELECT key FROM rows", "it has no ORDER BY"),
        ("SELECT 1 ORDER BY 1; SELECT 2 ORDER BY 1", "expected one SELECT, found 2 statements"),
        ("CREATE TABLE t AS SELECT key FROM rows ORDER BY key", "expected one SELECT"),
        ("SET threads = 8", "expected one SELECT"),
        ("COPY rows TO 'rows.csv'", "expected one SELECT"),
        ("SELECT key FROM rows WHERE n > $least ORDER BY key", "least"),
        ("SELECT * FROM read_csv('/etc/passwd') ORDER BY 1", "file system operations are disabled"),
        ("SELECT * FROM '/etc/passwd' ORDER BY 1", "/etc/passwd"),
        ("SELECT * FROM 'https://example.org/x.parquet' ORDER BY 1", "example.org"),
        ("SELECT * FROM others ORDER BY 1", "others does not exist"),
        ("SELECT error('two' || chr(10) || 'lines') FROM rows ORDER BY key", "two lines"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(query: str, fault: str, tmp_path: Path) -> None:
    others = TABLE  # a variable of Python is no table
    with pytest.raises(BadQuery) as caught:
        ask(query, tmp_path)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
    assert others is TABLE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("query", ["SELEC key", "SELECT key FROM rows", "SELECT colour FROM rows ORDER BY key"])
def test_a_refusal_keeps_nothing_of_the_database(query: str, tmp_path: Path) -> None:
    """What a kept error still held when Python ended was listed on the terminal, forty lines behind the message."""
    with pytest.raises(BadQuery) as refused:
        select(query, {"rows": pa.table({"key": ["a"]})}, {}, folder=tmp_path)
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)
    held = [value for frame, _ in traceback.walk_tb(refused.value.__traceback__) for value in frame.f_locals.values()]
    assert not [value for value in held if type(value).__module__.startswith("_duckdb")]


def test_what_does_not_fit_into_memory_goes_to_the_folder_and_is_removed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    query = """
        SELECT sum(place)::BIGINT AS total
        FROM (SELECT row_number() OVER (ORDER BY (i * 7919) % 1000003) AS place FROM range(3000000) AS numbers(i))
        ORDER BY total
    """
    found = select(query, {}, {}, folder=tmp_path, memory="40MB")
    assert found.to_pylist() == [{"total": 3_000_000 * 3_000_001 // 2}]
    assert os.listdir(tmp_path) == []
    with pytest.raises(BadQuery, match="Failed to create directory"):
        select(query, {}, {}, folder=tmp_path / "no" / "folder", memory="40MB")
    assert capfd.readouterr() == ("", "")  # no bar of DuckDB's own


def test_one_thread_works_and_the_configuration_is_locked(tmp_path: Path) -> None:
    setting = "SELECT name, value FROM duckdb_settings() WHERE name IN ('threads', 'lock_configuration') ORDER BY name"
    assert [row["value"] for row in ask(setting, tmp_path).to_pylist()] == ["true", "1"]
    assert sql.MEMORY == "40%"
