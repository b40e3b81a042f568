"""Exact duplicates: the same bytes, or the same pixels in another file."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.stages.measure import measure
from stoker.storage.shards.sample import Sample
from stoker.testing import decide
from tests.pipelines.pictures import packed, picture


def dropped(table: pa.Table, conflicts: str = "drop") -> dict[str, tuple[str, str]]:
    rule = ExactDuplicates("keep" if conflicts == "keep" else "drop")
    return {decision.key: (decision.value, decision.witness) for decision in decide(rule, table)}


def records(payloads: list[tuple[str, bytes]]) -> pa.Table:
    rows = []
    for number, (extension, payload) in enumerate(payloads):
        measures = measure(Sample(f"k{number}", {extension: payload}))
        assert isinstance(measures, dict)
        rows.append({"key": f"k{number}"} | measures)
    return pa.Table.from_pylist(rows)


def test_pixels_count_however_they_are_compressed() -> None:
    image = picture(90, 60)
    table = records(
        [
            ("png", packed(image, "PNG", compress_level=9)),
            ("png", packed(image, "PNG", compress_level=1)),
            ("webp", packed(image, "WEBP", lossless=True)),
            ("bmp", packed(image, "BMP")),
            ("jpg", packed(image, optimize=False)),
            ("jpg", packed(image, optimize=True, comment=b"again")),
            ("png", packed(picture(90, 60, seed=1), "PNG")),
            ("png", packed(picture(60, 90), "PNG")),
        ]
    )
    same = dict.fromkeys(("k1", "k2", "k3"), ("exact_duplicate", "k0"))
    assert dropped(table) == same | {"k5": ("exact_duplicate", "k4")}


def test_records_without_a_hash_of_pixels_are_compared_by_bytes() -> None:
    table = pa.table({"key": ["a", "b", "c", "d"], "content_sha256": ["1", "2", "1", "3"]})
    assert dropped(table) == {"c": ("exact_duplicate", "a")}
    mixed = table.append_column("pixels_sha256", pa.array([None, "p", "p", None]))
    assert dropped(mixed) == {"b": ("exact_duplicate", "a"), "c": ("exact_duplicate", "a")}


def test_other_labels_of_the_same_pixels_are_a_conflict() -> None:
    table = pa.table(
        {"key": ["a", "b"], "content_sha256": ["1", "2"], "pixels_sha256": ["p", "p"], "label": ["cat", "dog"]}
    )
    assert dropped(table) == {"a": ("label_conflict", "b"), "b": ("label_conflict", "a")}
    assert dropped(table, "keep") == {"b": ("exact_duplicate", "a")}


def test_no_label_contradicts_none_and_the_oldest_that_has_one_stays() -> None:
    content = {"key": ["a", "b", "c"], "content_sha256": ["1", "1", "1"]}
    for nothing in (None, ""):
        table = pa.table({**content, "label": pa.array([nothing, "cat", "cat"], pa.string())})
        for conflicts in ("drop", "keep"):
            assert dropped(table, conflicts) == {"a": ("exact_duplicate", "b"), "c": ("exact_duplicate", "b")}
        table = pa.table({**content, "label": pa.array(["cat", nothing, nothing], pa.string())})
        assert dropped(table) == {"b": ("exact_duplicate", "a"), "c": ("exact_duplicate", "a")}
        table = pa.table({**content, "label": pa.array([nothing, "cat", "dog"], pa.string())})
        conflict = "label_conflict"
        assert dropped(table) == {"a": (conflict, "b"), "b": (conflict, "c"), "c": (conflict, "b")}
    assert dropped(pa.table({**content, "label": pa.nulls(3)})) == {
        "b": ("exact_duplicate", "a"),
        "c": ("exact_duplicate", "a"),
    }


def test_large_images_have_a_hash_of_their_pixels_where_the_perceptual_hash_is_poor() -> None:
    flat = Image.new("RGB", (600, 500), (9, 120, 200))
    assert dropped(records([("png", packed(flat, "PNG")), ("bmp", packed(flat, "BMP"))])) == {
        "k1": ("exact_duplicate", "k0")
    }
    for image, expected in ((flat, True), (picture(600, 500), False), (picture(200, 200), True)):
        measures = measure(Sample("k", {"png": packed(image, "PNG")}))
        assert isinstance(measures, dict)
        assert ("pixels_sha256" in measures) == expected


def test_what_the_hash_would_not_see_counts_by_its_bytes() -> None:
    first, second = (Image.new("L", (30, 30), grey) for grey in (10, 200))
    animations = [packed(first, "GIF", save_all=True, append_images=[other]) for other in (second, first.rotate(90))]
    deep = [packed(Image.new("I;16", (30, 30), grey), "PNG") for grey in (2560, 2561)]
    assert dropped(records([("gif", animations[0]), ("gif", animations[1]), ("png", deep[0]), ("png", deep[1])])) == {}


HASHES = ("content_sha256", "pixels_sha256")


def plainly(rows: list[dict[str, str | None]]) -> list[list[int]]:
    """The sets of the same content, which are joined a row at a time."""
    sets: list[list[int]] = []
    for row, values in enumerate(rows):
        joined = [row]
        for others in list(sets):
            if any(
                values[name] is not None and values[name] == rows[other][name] for other in others for name in HASHES
            ):
                sets.remove(others)
                joined += others
        sets.append(sorted(joined))
    return sorted(same for same in sets if len(same) > 1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9))), max_size=30),
    st.integers(1, 7),
)
def test_the_sets_are_those_of_joining_rows_one_by_one(samples: list[tuple[int, int | None]], cut: int) -> None:
    rows = [
        {"key": f"k{row}", "content_sha256": f"c{content}", "pixels_sha256": None if pixels is None else f"p{pixels}"}
        for row, (content, pixels) in enumerate(samples)
    ]
    schema = pa.schema([("key", pa.string()), *((name, pa.string()) for name in HASHES)])
    whole = pa.Table.from_pylist(rows, schema=schema)
    table = pa.concat_tables([whole.slice(start, cut) for start in range(0, max(1, len(rows)), cut)])
    expected = [(same[0], row) for same in plainly(rows) for row in same[1:]]
    decided = decide(ExactDuplicates(), table)
    assert [(int(one.witness[1:]), int(one.key[1:])) for one in decided] == expected
