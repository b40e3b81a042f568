"""A rule's query is refused where its result does not depend on its rows alone, or has no order."""

from pathlib import Path

import pyarrow as pa
import pytest

from stoker.pipelines.tables.deciding.sql import BadQuery, select

ROWS = pa.table({"key": ["b", "a"], "n": [1, 2], "now": [3, 4], "current_date": [5, 6]})


def ask(query: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = select(query, {"rows": ROWS}, {}, folder=Path()).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT key, random() FROM rows ORDER BY key", "random"),
        ("SELECT key FROM rows ORDER BY RANDOM()", "random"),
        ('SELECT key FROM rows WHERE "random"() < 1 ORDER BY key', "random"),
        ("WITH a AS (SELECT key, uuid() AS u FROM rows) SELECT key FROM a ORDER BY u", "uuid"),
        ("SELECT key FROM rows WHERE now() > TIMESTAMP '2026-01-01' ORDER BY key", "now"),
        ("SELECT key, current_timestamp FROM rows ORDER BY key", "current_timestamp"),
        ("SELECT key, ago(INTERVAL 1 DAY) FROM rows ORDER BY key", "ago"),
        ("SELECT key, current_setting('threads') FROM rows ORDER BY key", "current_setting"),
    ],
)
def test_what_is_another_value_each_time_is_refused_by_its_name(query: str, name: str) -> None:
    with pytest.raises(BadQuery, match=f"it calls {name}, whose value is another one each time; .*: (SELECT|WITH)"):
        ask(query)


def test_a_sample_of_rows_is_refused() -> None:
    with pytest.raises(BadQuery, match="it takes a sample of rows, another one each time"):
        ask("SELECT key FROM rows USING SAMPLE 1 ROWS ORDER BY key")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT key FROM rows WHERE n IN (SELECT n FROM rows ORDER BY n)",
        "SELECT key, row_number() OVER (ORDER BY key) FROM rows",
        "WITH a AS (SELECT key FROM rows ORDER BY key) SELECT key FROM a",
        "SELECT key FROM rows -- ORDER BY key",
        "SELECT 'order by' || key FROM rows",
    ],
)
def test_an_order_of_another_step_is_none(query: str) -> None:
    with pytest.raises(BadQuery, match=r"it has no ORDER BY at its end, .*: (SELECT|WITH)"):
        ask(query)


def test_columns_with_the_names_of_functions_are_columns() -> None:
    query = "SELECT key, now, current_date FROM rows ORDER BY key"
    assert ask(query) == [{"key": "a", "now": 4, "current_date": 6}, {"key": "b", "now": 3, "current_date": 5}]
    with pytest.raises(BadQuery, match="it calls now"):
        ask("SELECT key, now() FROM rows ORDER BY key")
    assert ask("SELECT key FROM rows UNION SELECT 'c' ORDER BY ALL LIMIT 1") == [{"key": "a"}]
