"""The rule `caps`: how many of a kind stay, which ones, and that elders count first."""

from typing import Any

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rules.caps import Caps
from stoker.testing import decide


def table(count: int = 40, **columns: Any) -> pa.Table:
    keys = [f"k{place:02}" for place in range(count)]
    return pa.table({"key": keys, "label": ["cat", "dog"] * (count // 2)} | columns)


def dropped(rule: Caps, rows: pa.Table, **options: Any) -> set[str]:
    found = decide(rule, rows, **options)
    assert {one.value for one in found} <= {"over_cap"}
    return {one.key for one in found}


def test_at_most_so_many_of_a_value_stay_whatever_their_order_in_the_source() -> None:
    gone = dropped(Caps("label", 5), table())
    kept = [label for key, label in zip(*table().to_pydict().values(), strict=True) if key not in gone]
    assert sorted(kept) == ["cat"] * 5 + ["dog"] * 5
    assert gone != {f"k{place:02}" for place in range(10, 40)}
    turned = table().take(list(range(39, -1, -1)))
    assert dropped(Caps("label", 5), turned) == gone
    assert dropped(Caps("label", 20), table()) == set()
    assert decide(Caps("label", 19), table())[0].detail in ("more than 19 of label cat", "more than 19 of label dog")


def test_samples_without_a_value_stay() -> None:
    assert dropped(Caps("label", 1), table(4).set_column(1, "label", [[None, None, "", ""]])) == set()


@pytest.mark.parametrize(
    ("by", "values"),
    [
        ("host", [f"http://{host}.org/{n}" for n, host in enumerate("XxXy")]),
        ("n", [1, 1, 1, 2]),
        ("tags", [["a"], ["a"], ["a"], []]),
        ("group", ["g", "g", "g", "h"]),
    ],
)
def test_any_column_and_the_host_of_the_url_can_be_capped(by: str, values: list[object]) -> None:
    rows = table(4, **{"url" if by == "host" else by: values})
    assert len(dropped(Caps(by, 2), rows)) == 1


def test_keep_says_which_new_ones_stay() -> None:
    sizes = [place * 7 % 20 for place in range(20)]
    rows = table(20, width=sizes, height=[1] * 20, label=["cat"] * 20)
    assert dropped(Caps("label", 3, "largest"), rows) == {f"k{place:02}" for place in range(20) if sizes[place] < 17}
    assert dropped(Caps("label", 3, "oldest"), rows) == {f"k{place:02}" for place in range(3, 20)}
    with pytest.raises(RecipeError, match="no column 'characters'"):
        decide(Caps("label", 3, "longest"), rows)


def test_elders_count_first_and_the_oldest_of_them_stay_where_the_rule_is_new() -> None:
    rows = table(20, label=["cat"] * 20, is_elder=[place < 4 for place in range(20)])
    gone = dropped(Caps("label", 6), rows, elders_stay=True)
    assert len(gone) == 14
    assert not gone & {"k00", "k01", "k02", "k03"}
    assert dropped(Caps("label", 3), rows) == {f"k{place:02}" for place in range(3, 20)}


def test_a_column_that_no_record_has_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"no column 'lable'.*did you mean 'label'"):
        decide(Caps("lable", 3), table())
