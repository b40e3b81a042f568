"""SQL over a version: its three tables, what is read for them, and that it reaches nothing else."""

from pathlib import Path

import pytest

import stoker
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.errors import StokerError
from stoker.storage.stores.memory import MemoryStore


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> stoker.Version:
    root = tmp_path_factory.mktemp("recipe")
    (root / "in").mkdir()
    for number in range(1, 6):
        (root / "in" / f"{number}.txt").write_text(f"word{number} " * number * 10)
    (root / "in" / "6.txt").write_bytes(b"\xff")
    document = {
        "corpus": "words",
        "source": {"name": "local_files", "files": "in/*.txt"},
        "splits": {"train": 100},
        "rules": [{"name": "where", "where": "words >= 30", "reason": "low_text"}],
    }
    store = MemoryStore()
    ingest(parse(document, root=root), store, Context(root=root, web=Web(), scratch=root / "scratch"))
    return stoker.version(store, "words")


def test_samples_are_those_of_the_version_with_key_and_split(version: stoker.Version) -> None:
    found = version.sql("SELECT title, words, split FROM samples ORDER BY words DESC").to_pylist()
    assert [(row["words"], row["split"]) for row in found] == [(50, "train"), (40, "train"), (30, "train")]
    whole = version.sql("FROM samples")
    assert whole.num_rows == 3
    assert set(whole.column_names) == set(version.records().schema.names)
    assert version.sql("SELECT octet_length(minhash) AS n FROM samples").to_pylist() == [{"n": 512}] * 3
    assert version.sql("SELECT count(*) AS n FROM samples a JOIN samples b USING (Words)").to_pylist() == [{"n": 3}]
    assert version.split("train").sql("select count(*) n from Samples").to_pylist() == [{"n": 3}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT s.words FROM (SELECT s FROM samples s) ORDER BY 1",
        "SELECT samples.words FROM (SELECT samples FROM samples) ORDER BY 1",
        "SELECT words FROM query('FROM samples') ORDER BY 1",
        "SELECT words FROM query_table('samples') ORDER BY 1",
        "SELECT words FROM samples NATURAL JOIN samples AS other ORDER BY 1",
    ],
)
def test_columns_and_tables_that_are_not_named_are_there_as_well(query: str, version: stoker.Version) -> None:
    assert [next(iter(row.values())) for row in version.sql(query).to_pylist()] == [30, 40, 50]


def test_rejected_are_those_of_source_and_rules(version: stoker.Version) -> None:
    found = version.sql('SELECT reason, "by", url FROM rejected ORDER BY reason, key').to_pylist()
    assert [(row["reason"], row["by"]) for row in found] == [
        ("low_text", "where"),
        ("low_text", "where"),
        ("not_utf8", "measure"),
    ]
    assert found[2]["url"] == "file:6.txt"
    counted = version.sql("SELECT reason, count(*) AS n FROM rejected GROUP BY 1 ORDER BY 1").to_pylist()
    assert {row["reason"]: row["n"] for row in counted} == dict(version.manifest.rejected)


def test_outcomes_are_what_the_corpus_remembers(version: stoker.Version) -> None:
    found = version.sql("SELECT class, count(*) AS n FROM outcomes GROUP BY 1 ORDER BY 1").to_pylist()
    assert sum(row["n"] for row in found) == 6
    assert {"kept"} < {row["class"] for row in found}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT wrds FROM samples", 'Referenced column "wrds" not found.*words'),
        ("SELECT * FROM smples", "smples"),
        ("SELECT * FROM samples WHERE", "syntax error"),
        ("SELECT 1; SELECT 2", "expected one SELECT"),
        ("", "expected one SELECT"),
        ("CREATE TABLE x AS SELECT 1", "expected one SELECT"),
        ("COPY samples TO '/tmp/x'", "expected one SELECT.*found COPY, and nothing is changed"),
        ("SET enable_external_access = true", "expected one SELECT"),
        ("INSTALL httpfs", "expected one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "^(?!.*Error).*disabled"),
        ("SELECT * FROM '/etc/passwd'", "one line|passwd"),
        ("SELECT * FROM read_text('http://127.0.0.1/')", "^(?!.*Error).*disabled"),
        ("SELECT words + title FROM samples", "words|types"),
        ("SELECT error('a\nb') FROM samples", "a b"),
    ],
)
def test_what_is_no_query_of_these_tables_is_refused_in_one_line(
    query: str, message: str, version: stoker.Version
) -> None:
    with pytest.raises(StokerError, match=message) as caught:
        version.sql(query)
    assert "\n" not in str(caught.value)


def test_columns_of_one_name_are_told_apart(version: stoker.Version) -> None:
    joined = version.sql("SELECT a.key, b.key, 1 AS KEY, 2 AS key_1 FROM samples a, samples b ORDER BY 1, 2 LIMIT 1")
    assert joined.column_names == ["key", "key_2", "KEY_3", "key_1"]
    assert len(joined.to_pylist()[0]) == 4


def test_variables_of_python_are_no_tables(version: stoker.Version, tmp_path: Path) -> None:
    import pyarrow as pa

    secret = pa.table({"a": [1]})
    with pytest.raises(StokerError, match="secret"):
        version.sql("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_only_the_columns_that_a_query_names_are_read(version: stoker.Version, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    records = stoker.Version.records

    def noted(self: stoker.Version, columns: object = None, **options: object) -> object:
        asked.append(columns)
        return records(self, columns, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(stoker.Version, "records", noted)
    version.sql("SELECT max(words) AS w FROM samples WHERE split = 'train'")
    assert asked[-1] == ["key", "split", "words"]
