"""Reports in the terminal: at 80 columns, in a pipe, on an old terminal, about data that wants to take it over."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from stoker.flows.cli import show
from stoker.pipelines.rejected import REASONS
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import load_manifest
from tests.flows.inspected_corpus import make_all
from tests.storage.published import make_version

Report = Callable[[Console], None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    found = MemoryStore()
    make_all(found, tmp_path_factory.mktemp("made"))
    return found


@pytest.fixture(scope="module")
def reports(store: MemoryStore) -> dict[str, Report]:
    new, old, texts = (load_manifest(store, name) for name in ("shapes@2", "shapes@1", "pages"))
    lineages = [find_lineages(store, new, key)[0] for key in ("shape-3", "shape-4", "shape-5", "shape-9")]
    return {
        "list": lambda console: show.print_corpora(store, console),
        "show": lambda console: show.print_version(new, console),
        "show texts": lambda console: show.print_version(texts, console),
        "diff": lambda console: show.print_difference(old, new, store, console),
        "why": lambda console: show.print_lineages(lineages, REASONS, console),
    }


def printed(report: Report, **options: object) -> str:
    out = io.StringIO()
    report(Console(file=out, **options))  # type: ignore[arg-type]  # the options of a console
    return out.getvalue()


@pytest.mark.parametrize("name", ["list", "show", "show texts", "diff", "why"])
def test_a_report_fits_a_terminal_of_80_columns(reports: dict[str, Report], name: str) -> None:
    text = printed(reports[name], force_terminal=True, color_system=None, width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert all(one == "\n" or one.isprintable() for one in text)
    assert text.strip()


def test_long_names_of_options_and_of_what_was_left_out_are_whole_at_80_columns(store: MemoryStore) -> None:
    new = load_manifest(store, "shapes@2").read_lists()
    option, cause = "an_option_of_a_plug_in_with_a_long_name", "video frame decoded, at no wanted time, as told"
    source = {**new.recipe["source"], option: 1}
    part = replace(new.parts[0], omitted={cause: 7})
    other = replace(new, recipe={**new.recipe, "source": source}, parts=(part, *new.parts[1:]))
    look = {"force_terminal": True, "color_system": None, "width": 80}
    assert option in printed(lambda console: show.print_difference(new, other, store, console), **look)
    assert cause in printed(lambda console: show.print_version(other, console), **look)


@pytest.mark.parametrize("name", ["list", "show", "show texts", "diff", "why"])
def test_a_report_in_a_pipe_holds_no_codes_and_no_trailing_blanks(reports: dict[str, Report], name: str) -> None:
    lines = printed(reports[name], width=80).splitlines()
    assert [line for line in lines if not line.isprintable() or line != line.rstrip()] == []
    assert lines


def test_in_a_pipe_checksums_addresses_and_keys_stay_whole(store: MemoryStore, reports: dict[str, Report]) -> None:
    lineage = find_lineages(store, load_manifest(store, "shapes@2"), "shape-3")[0]
    text = printed(reports["why"], width=40)
    for value in (lineage.record["sha256"], lineage.record["url"], lineage.shard):
        assert value in text


@pytest.mark.parametrize("name", ["list", "show", "diff", "why"])
def test_a_report_on_a_terminal_has_only_rich_s_own_codes(reports: dict[str, Report], name: str) -> None:
    text = printed(reports[name], force_terminal=True, width=80, color_system="standard")
    assert "\x1b[31mred" not in text.replace("\ufffd[31mred", "")
    assert not set(text) & set("\x07\u202e\x9b")
    assert text.count("\x1b") == text.count("\x1b[")


@pytest.mark.parametrize("width", [40, 200])
def test_other_widths_work_too(reports: dict[str, Report], width: int) -> None:
    for report in reports.values():
        assert printed(report, force_terminal=True, width=width)


def test_a_terminal_that_knows_only_ascii_gets_a_report_too(reports: dict[str, Report]) -> None:
    for report in reports.values():
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii")
        report(Console(file=out))
        out.flush()
        assert raw.getvalue().decode("ascii").strip()


def test_markup_in_data_is_text(reports: dict[str, Report]) -> None:
    assert "<b>&\"'" in printed(reports["show"])
    assert "[31mred" in printed(reports["show"])


def test_show_tells_what_was_kept_refused_and_why(reports: dict[str, Report]) -> None:
    text = printed(reports["show"])
    for words in (
        "64 images made from 80 candidates",
        "exact_duplicate",
        "robots.txt forbids it",
        "validation",
        "CC0-1.0",
        "40 px",
        "about 8 authors",
        "stoker verify shapes@2",
    ):
        assert words in text
    assert "secret" not in text


def test_of_many_splits_show_prints_the_first_and_counts_the_others() -> None:
    made = make_version(MemoryStore())
    more = tuple(replace(made.shards[0], split=f"split-{number}") for number in range(1_000))
    many = replace(made, shards=(*made.shards, *more))
    text = printed(lambda console: show.print_version(many, console), width=80)
    assert "split-97 " in text
    assert "split-98 " not in text
    assert "902 other splits; --json has them all" in text


def test_list_names_the_newest_versions(reports: dict[str, Report]) -> None:
    text = printed(reports["list"])
    assert "shapes@2" in text
    assert "pages@1" in text


def test_an_empty_store_says_what_to_do() -> None:
    assert "`stoker example`" in printed(lambda console: show.print_corpora(MemoryStore(), console))


def test_a_corpus_whose_manifest_is_damaged_hides_no_other(store: MemoryStore) -> None:
    damaged = MemoryStore()
    for one in store.list():
        damaged.write(one.key, store.read(one.key))
    damaged.write("pages/versions/00000001.json", b"{")
    text = printed(lambda console: show.print_corpora(damaged, console))
    assert "not JSON" in text
    assert "shapes@2" in text


def test_why_tells_the_whole_life(reports: dict[str, Report]) -> None:
    text = " ".join(printed(reports["why"]).split())
    assert "gone: the server says it does not exist" in text
    assert "It depends on the moment." in text
    assert "kept instead shape-4, 100 % similar" in text
    assert "In split" in text


def test_why_shows_the_source_s_own_columns_and_names_the_two_recipes(store: MemoryStore) -> None:
    manifest = load_manifest(store, "shapes@2")
    found = find_lineages(store, manifest, "shape-3")[0]
    found = replace(found, record={**found.record, "camera": "Leica M6", "rating": 0, "flash": False})
    text = printed(lambda console: show.print_lineages([found], REASONS, console))
    for name, value in (("camera", "Leica M6"), ("rating", "0"), ("flash", "False")):
        assert any(line.split() == [name, *value.split()] for line in text.splitlines())
    assert f"recipe for fetching  {found.record['recipe']}" in text


def test_json_is_what_the_report_says(store: MemoryStore) -> None:
    found = show.version_json(load_manifest(store, "shapes"))
    assert (found["reference"], found["samples"], found["candidates"]) == ("shapes@2", 64, 80)


def test_a_damaged_manifest_of_an_older_version_hides_no_newer_one() -> None:
    store = MemoryStore()
    for version in (1, 2, 3):
        make_version(store, version)
    key, newest = layout.version("digits", 1), layout.version("digits", 3)
    store.write(key, store.read(key)[:50])
    text = printed(lambda console: show.print_corpora(store, console), width=200)
    assert re.search(r"digits@3 +\d", text)
    assert "digits/versions/00000001.json" in text
    assert "restore it from a copy; newer versions do not need it" in text
    assert "ingest again" not in text
    (about,) = show.corpora_json(store)["corpora"]
    assert (about["newest"]["version"], about["error"], len(about["errors"])) == (3, None, 1)
    assert about["errors"][0] in text
    store.write(newest, b"{")
    text = printed(lambda console: show.print_corpora(store, console), width=200)
    (about,) = show.corpora_json(store)["corpora"]
    assert (about["newest"], about["error"]) == (None, about["errors"][1])
    assert "digits@3  " in text
    assert all(error in text for error in about["errors"])
