"""The rule `where`: an expression over any column, null is not true, and each mistake is one line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import parse
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.where import Where
from stoker.testing import decide

PICTURES = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "width": [300, 100, 300, None],
        "licence": ["CC-BY", "CC0", None, "CC0"],
        "tags": [["cat"], [], None, ["cat", "dog"]],
        "my score": [0.5, 0.25, 1.0, None],
    }
)


def rule(where: str, **options: Any) -> Rule:
    document: dict[str, Any] = {"corpus": "birds", "source": {"name": "local_files", "files": "."}}
    document |= {"rules": [{"name": "where", "where": where} | options]}
    return parse(document, root=Path()).rules[0]


def dropped(where: str) -> str:
    return "".join(decision.key for decision in decide(rule(where), PICTURES))


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("width >= 256 and licence like 'CC%'", "bcd"),
        ("licence is null or licence like 'CC%'", ""),
        ("not width < 200", "bd"),
        ('"my score" >= .5', "bd"),
        ("list_contains(tags, 'cat')", "bc"),
        ("len(list_filter(tags, lambda tag: tag = 'dog')) = 0", "cd"),
        ("rows.width in (100, 300) -- a comment", "d"),
        ("key <> 'a'", "a"),
        ("false", "abcd"),
    ],
)
def test_samples_for_which_it_is_false_or_null_are_dropped(where: str, keys: str) -> None:
    assert dropped(where) == keys


def test_it_reads_the_columns_that_it_names_and_no_others() -> None:
    assert rule("\"my score\" > len(list_filter(tags, lambda tag: tag = 'x')) or rows.width > 1").needed_columns() == (
        "my score",
        "tags",
        "width",
    )
    assert rule("""meta ->> 'licence' = 'CC0'""").needed_columns() == ("meta",)


def test_its_reason_is_the_word_of_the_recipe_and_has_a_meaning() -> None:
    (first, *_) = decide(rule("width > 200", reason="low_resolution"), PICTURES)
    assert (first.key, first.value) == ("b", "low_resolution")
    known = reasons_of({"rules": [{"name": "where", "where": "true", "reason": "low_resolution"}]})
    assert known["low_resolution"].meaning
    assert reasons_of({"rules": [{"name": "where", "where": "true"}]})["not_wanted"].meaning
    assert decide(rule("width > 200", reason="too_small"), PICTURES)[0].value == "too_small"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("width >", "no SQL expression: syntax error at or near"),
        ("", "no SQL expression"),
        ("width, 2", "expected one SQL expression"),
        ("width > 1 AS large", "without a name of its own"),
        ("1 FROM rows WHERE true --", "syntax error"),
        ("1) FROM rows WHERE (2", "syntax error"),
        ("true) FROM rows GROUP BY (1", "syntax error"),
        ("width > 1; DROP TABLE rows", "syntax error"),
        ("count(*) > 1", "it calls count_star, which is no function of one row"),
        ("width = max(width)", "it calls max, which is no function of one row"),
        ("row_number() over () > 1", "a window function"),
        ("key in (select key from rows)", "a subquery"),
        ("exists (from read_csv('/etc/passwd'))", "a subquery"),
        ("unnest(tags) = 'cat'", "it calls unnest"),
        ("now() > '2020-01-01'::timestamptz", "it calls now, whose value is another one each time"),
        ("random() < .5", "it calls random"),
        ("width > $least", "a parameter"),
        ("COLUMNS('w.*') > 1", r"\*, which stands for several columns"),
        ("lenght(licence) > 3", r"no function is called 'lenght'; did you mean 'length'\?"),
    ],
)
def test_what_is_no_expression_over_one_sample_is_refused_where_the_recipe_is_read(where: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        rule(where)
    assert str(caught.value).startswith("recipe: rules[0]: where.where: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("widht > 1", r"no column 'widht', .*did you mean 'width'\?"),
        ("width", "'width' is int64, expected true or false"),
        ("width + 1", "expected true or false"),
        ("licence > 3", "Cannot compare values of type VARCHAR"),
        ("licence::int > 3", "Could not convert string 'CC-BY'"),
    ],
)
def test_what_only_the_records_show_is_told_in_one_line(where: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        decide(rule(where), PICTURES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reason", ["gone", "opted_out", "Not a word", ""])
def test_a_reason_is_a_word_that_says_what_recipes_decide(reason: str) -> None:
    with pytest.raises(RecipeError, match=r"where\.reason"):
        rule("width > 1", reason=reason)


def test_days_do_not_depend_on_the_time_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    table = pa.table({"key": ["a"], "seen": pa.array([23 * 3600], pa.timestamp("s", "UTC"))})
    assert decide(rule("seen::date = '1970-01-01'"), table) == []


def test_one_that_is_made_in_python_is_refused_as_well() -> None:
    with pytest.raises(RecipeError, match="rule 'where': it holds a subquery"):
        decide(Where("width > (select 1)"), PICTURES)


@pytest.mark.parametrize(
    "where",
    [
        "length(repeat('x', 1000000000)) > 3",
        "length(repeat(key, width)) > 3",
        "length(repeat(key, 010000000)) > 3",
        "length(key.repeat(1_000).lpad(1000, '0')) > 3",
        "length(lpad(repeat(key, 1_000), 1000, '0')) > 3",
        "length(repeat('x', 1e9)) > 3",
        "length(REPEAT('x', cast('1000000000' as bigint))) > 3",
        "len(range(1000000000)) > 3",
        "len(generate_series(0, width, 1)) > 3",
        "length(format('{:>1000000000}', key)) > 3",
        "length(printf(key, 1)) > 3",
        "len(list_resize(tags, 1000000000)) > 3",
        "format('{:{}}', key, 2000000000) = key",
        "printf('%*d', 2000000000, width) = key",
        "format('{0}{0}{:5000}{:5000}', format('{:5000}', key)) = key",
        "replace(key, 'e', key) = key",
        "key.replace('e', licence) = key",
        "replace(replace(key, 'e', repeat('e', 1000)), 'e', key) = key",
        f"replace(replace(key, 'e', '{'e' * 400}'), 'e', '{'e' * 400}') = key",
        "regexp_replace(key, '.', key, 'g') = key",
        "key.regexp_replace('.', licence, 'g') = key",
        "array_to_string(string_split(key, ''), key) = key",
        "list_aggregate(string_split(key, ''), 'string_agg', key) = key",
        "len(list_select([key], range(1, 9))) > 3",
        "len(list_transform(string_split(key, ''), lambda x: key)) > 3",
        "len([key || x for x in tags]) > 3",
        "len(list_transform(tags, lambda x: list_transform(tags, lambda y: x))) > 3",
        "len(list_transform(string_split(key, ''), lambda x: list_transform([x], lambda y: rows.key))) > 3",
        "list_reduce(tags, lambda a, b: a || a || b) = key",
        "list_reduce([tags], lambda a, b: a + a) is null",
        "list_reduce([tags], lambda a, b: a + tags) is null",
        "json_pretty(key) = key",
        "bin(bin(bin(bin(bin(bin(key)))))) = key",
        "damerau_levenshtein(key, licence) > 3",
    ],
)
def test_what_makes_a_value_of_any_size_is_refused_before_it_runs(where: str) -> None:
    with pytest.raises(RecipeError, match="whose value may be of any size; expected sizes that are numbers"):
        rule(where)


def test_a_sleeper_is_refused() -> None:
    with pytest.raises(RecipeError, match="sleep"):
        rule("sleep_ms(60000) is null")


def test_values_of_a_stated_size_are_made() -> None:
    assert dropped("replace(key, 'a', 'd') = 'd' or key.replace('b', chr(100)) = 'd'") == "c"
    assert dropped("regexp_replace(key, '[ab]', '', 'g') = '' or key.regexp_replace('c', 'd') = 'd'") == ""
    assert dropped("format('{{{:*>3}}}', key) = '{**a}' or printf('%3d%% * 2', width) = '100% * 2'") == "cd"
    rule("array_to_string(list_transform(tags, lambda x, i: upper(x) || '-'), ', ') = key")
    rule("list_reduce(list_transform(tags, lambda x: length(x)), lambda a, b: a + b) > 3")
    rule("list_transform(tags, lambda x: list_transform(string_split(x, ''), lambda y: y)) is null")
    assert dropped("damerau_levenshtein(key, 'bb') = 1 or bin(key) = '01100001'") == "cd"
    rule("list_filter(tags, lambda x: x != key) = [] or list_select(tags, [1, 2]) = [upper(x) for x in tags if x]")
    assert dropped("lpad(key, 8, '0') = '0000000a' or printf('%08d', width) = '00000100'") == "cd"
    assert dropped("list_contains(range(1, 10), len(tags)) or repeat(key, 3) = 'ddd'") == "bc"
