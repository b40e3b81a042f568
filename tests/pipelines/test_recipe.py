"""What a wrong recipe is told, and what stands for a right one."""

import tomllib
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from stoker.pipelines import registry
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.published import recipe_in
from stoker.pipelines.recipe import Limits, Schedule, Sharding, load, parse
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.step import Step
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.fakes import context

GOOD: dict[str, Any] = {
    "corpus": "birds",
    "source": {"name": "local_files", "files": "*.jpg"},
    "steps": [{"name": "image_size", "min_short_side": 32}],
    "rules": [{"name": "exact_duplicates"}],
}


def changed(**changes: Any) -> dict[str, Any]:
    return GOOD | changes


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"corpus": "birds"}, "'source' is missing"),
        (changed(corpus="No Birds"), "corpus 'No Birds'; expected 1 to 63 of"),
        (changed(stepps=[]), "unknown key 'stepps'; did you mean 'steps'?"),
        (changed(source={"name": "local_file"}), "no source is called 'local_file'; did you mean 'local_files'?"),
        (changed(source={"files": "*"}), "source: expected a table with a name"),
        (changed(source={"name": "local_files", "flies": "*"}), "has no option 'flies'; did you mean 'files'?"),
        (
            changed(steps=[{"name": "image_sise"}]),
            r"steps\[0\]: no step is called 'image_sise'; did you mean 'image_size'?",
        ),
        (changed(steps={"name": "image_size"}), r"expected \[\[steps\]\] tables"),
        (
            changed(steps=[{"name": "image_size", "min_short_side": "many"}]),
            r"image_size.min_short_side: .*found 'many'",
        ),
        (changed(rules=[{"name": "exact_duplicates", "conflicts": "no"}]), "conflicts: .*'drop' or 'keep', found 'no'"),
        (changed(splits={"train": 80, "validation": 10}), "splits add up to 90, expected 100 percent"),
        (changed(splits={"train": 200, "validation": -100}), "splits.train: found 200, expected 0 to 100"),
        (changed(splits={"Train": 100}), "splits: 'Train'; expected a short lower-case word"),
        (changed(shards={"sample": 3}), "has no option 'sample'; did you mean 'samples'?"),
        (changed(limits={"rejected_percent": "all"}), "rejected_percent: .*found 'all'"),
        (
            changed(source={"name": "image_urls", "start": ["https://me:pw@a.org/"]}),
            "source: start: an address with a pass",
        ),
        (changed(shards={"samples": 0}), "samples"),
        (changed(shards={"megabytes": -1}), "megabytes"),
    ],
)
def test_a_wrong_recipe_is_told_what_where_and_what_next(document: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse(document, root=Path(), where="birds.toml")
    assert str(caught.value).startswith("birds.toml: ")
    assert "\n" not in str(caught.value)


def _numeric_options() -> Iterator[tuple[str, str, str]]:
    """Table of the recipe, name of the component ("" for a table of its own) and option, for each that is a number."""
    components: list[tuple[str, str, type]] = [
        *(("source", name, registry.find(Source, name)) for name in registry.names(Source)),
        *(("steps", name, registry.find(Step, name)) for name in registry.names(Step)),
        *(("rules", name, registry.find(Rule, name)) for name in registry.names(Rule)),
        ("shards", "", Sharding),
        ("limits", "", Limits),
        ("schedule", "", Schedule),
    ]
    for table, name, component in components:
        hints = get_type_hints(component)
        yield from ((table, name, option) for option, hint in hints.items() if hint in (int, float))


NUMERIC = list(_numeric_options())
# What cannot be left out of a source's table.
NEEDED = {
    "decontaminate": {"against": "a@1"},
    "caps": {"by": "label"},
    "hugging_face": {"dataset": "a/b"},
    "image_urls": {"lists": "a.txt"},
    "local_files": {"files": "a"},
    "video_frames": {"videos": "a.mp4"},
    "wikipedia_dump": {"dump": "a.xml"},
}


def _with_number(table: str, name: str, option: str, number: str) -> dict[str, Any]:
    values = tomllib.loads(f"{option} = {number}")
    if not name:
        return changed(**{table: values})
    component = {"name": name} | NEEDED.get(name, {}) | values
    return changed(**{table: component if table == "source" else [component]})


def test_the_numeric_options_are_found() -> None:
    assert len(NUMERIC) > 30
    assert {"max_megabytes", "max_pages", "similarity", "seed", "rejected_percent"} <= {
        option for *_, option in NUMERIC
    }


@pytest.mark.parametrize(("table", "name", "option"), NUMERIC)
def test_a_number_that_no_option_can_work_with_is_one_line_that_names_it(table: str, name: str, option: str) -> None:
    for number in (
        "inf",
        "-inf",
        "nan",
        "1e400",
        "-1e400",
        "1e308",
        "0x1" + "0" * 5000,
        "-9223372036854775809",
        "1" + "0" * 30,
    ):
        with pytest.raises(RecipeError, match=rf"{name}\.?.*{option}: ") as caught:
            parse(_with_number(table, name, option, number), root=Path(), where="a.toml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_a_missing_or_unreadable_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("corpus = ")
    (tmp_path / "latin.toml").write_bytes(b"corpus = '\xe9'")
    for name, message in (
        ("no.toml", "no such file"),
        ("", "a folder"),
        ("bad.toml", "not TOML"),
        ("latin.toml", "UTF-8"),
    ):
        with pytest.raises(RecipeError, match=message):
            load(tmp_path / name)


def test_the_digest_follows_what_decides_the_content_and_nothing_else() -> None:
    def digest(**changes: Any) -> str:
        return parse(changed(**changes), root=Path()).digest

    assert digest() == digest() == digest(schedule={"cron": "0 3 * * *"})
    others = [
        digest(corpus="bees"),
        digest(steps=[{"name": "image_size", "min_short_side": 33}]),
        digest(rules=[]),
        digest(splits={"train": 80, "validation": 20}),
        digest(shards={"samples": 10}),
    ]
    assert len({digest(), *others}) == 6


def test_defaults_that_are_spelled_out_change_nothing() -> None:
    spelled = changed(rules=[{"name": "exact_duplicates", "conflicts": "drop"}], splits={"train": 90, "validation": 10})
    assert parse(spelled, root=Path()).digest == parse(GOOD, root=Path()).digest


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (Source, Step, Rule) for name in registry.names(kind)],  # type: ignore[type-var]  # one of three
)
def test_every_part_is_found_by_the_name_of_its_file(kind: type[Any], name: str) -> None:
    found = registry.find(kind, name)
    assert issubclass(found, kind)
    assert found.__module__.endswith(f".{name}")
    assert "Example::" in (found.__doc__ or "")


def test_an_option_that_came_later_counts_only_where_it_is_not_the_default() -> None:
    def digest(**options: Any) -> str:
        return parse(changed(source={"name": "video_frames", "videos": "a.mp4", **options}), root=Path()).digest

    assert digest() == digest(hdr="tonemap", deinterlace=False)
    assert len({digest(), digest(hdr="raw"), digest(deinterlace=True)}) == 3

    def step_digest(**options: Any) -> str:
        return parse(changed(steps=[{"name": "image", **options}]), root=Path()).digest

    assert step_digest() == step_digest(animated="first") != step_digest(animated="reject")


@pytest.mark.parametrize("names", list(permutations(("test", "train", "validation"))))
def test_the_order_of_splits_survives_the_manifest(names: tuple[str, ...], tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    written = parse(
        {
            "corpus": "texts",
            "source": {"name": "local_files", "files": "*.txt"},
            "splits": dict(zip(names, (60, 30, 10), strict=True)),
        },
        root=tmp_path,
    )
    store = MemoryStore()
    ingest(written, store, context(tmp_path))
    manifest = load_manifest(store, "texts")
    assert tuple(manifest.recipe["splits"]) == ("test", "train", "validation")  # sorted: the case that is meant
    found = recipe_in(manifest)
    assert (tuple(found.splits), tuple(found.document["splits"])) == (names, names)
    assert found.digest == manifest.recipe_digest
