"""Rows of local data sets, read without any library."""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.source import Candidate
from stoker.pipelines.sources.hugging_face import HuggingFace
from tests.conftest import HANGS_S
from tests.fakes import context
from tests.pipelines.pictures import decoded, picture

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    "caption": {"_type": "Value", "dtype": "string"},
}


def pictures(rows: int) -> pa.Table:
    columns = {
        "image": [{"bytes": PNG + bytes([row]), "path": f"x/{row}.png"} for row in range(rows)],
        "label": [row % 3 - 1 for row in range(rows)],  # -1: no label is known
        "caption": [f"picture {row}" for row in range(rows)],
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    return pa.table(columns).replace_schema_metadata(metadata)


def texts(values: Sequence[str | None]) -> pa.Table:
    return pa.table({"text": pa.array(values, pa.string()), "label": list(range(len(values)))})


def read(folder: Path, dataset: str, **options: object) -> list[Candidate]:
    source = HuggingFace(dataset, **options)  # type: ignore[arg-type]  # options of a test
    source_context = context(folder)
    return [
        candidate
        for partition in source.partitions(source_context)
        for candidate in source.read(partition, source_context)
    ]


def write_arrow(table: pa.Table, path: Path, *, stream: bool) -> None:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


@pytest.mark.parametrize("form", ["parquet", "stream.arrow", "file.arrow"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_come_whole_and_in_order_however_they_are_cut(tmp_path: Path, form: str, size: int) -> None:
    path = tmp_path / f"x.{form}"
    if form == "parquet":
        pq.write_table(pictures(20), path, row_group_size=6)
    else:
        write_arrow(pictures(20), path, stream=form.startswith("stream"))
    found = read(tmp_path, path.name, rows_per_partition=size, columns=("caption",), licence="MIT")
    assert [candidate.sample.fields["png"] for candidate in found] == [PNG + bytes([row]) for row in range(20)]
    records = [candidate.sample.record for candidate in found]
    assert [record["row"] for record in records] == list(range(20))
    assert [record.get("label") for record in records[:3]] == [None, "cat", "dog"]
    assert (records[4]["caption"], records[4]["title"], records[4]["licence"]) == ("picture 4", "4.png", "MIT")
    assert len({candidate.sample.key for candidate in found}) == 20
    assert found[7].sample.key.endswith("-000000007")


def test_the_library_is_not_needed_for_local_files(tmp_path: Path) -> None:
    pq.write_table(pictures(2), tmp_path / "x.parquet")
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from tests.pipelines.sources.test_hugging_face import read; from pathlib import Path\n"
        f"assert len(read(Path({str(tmp_path)!r}), 'x.parquet')) == 2\n"
        "try: read(Path('.'), 'some/name')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANGS_S)
    assert done.stdout.strip() == (
        "source 'hugging_face' needs a library for the hub: pip install \"stoker[huggingface]\""
    )


def test_a_folder_is_read_for_the_split_that_its_files_name(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    for name, values in {"train-00000": ["a", "b"], "train-00001": ["c"], "test-00000": ["d"]}.items():
        pq.write_table(texts(values), tmp_path / "set" / "data" / f"{name}.parquet")
    assert [candidate.sample.fields["txt"] for candidate in read(tmp_path, "set")] == [b"a", b"b", b"c"]
    assert [candidate.sample.record["row"] for candidate in read(tmp_path, "set")] == [0, 1, 2]
    assert [candidate.sample.fields["txt"] for candidate in read(tmp_path, "set", split="test")] == [b"d"]
    with pytest.raises(RecipeError, match=r"split 'tset': did you mean 'test'"):
        read(tmp_path, "set", split="tset")


def test_rows_that_hold_nothing_usable_are_rejected(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": pa.array(
                [
                    {"bytes": b"GIF89a", "path": None},
                    {"bytes": b"<html>", "path": None},
                    {"bytes": None, "path": "/etc/passwd"},
                    None,
                ],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    outcomes = [
        candidate.rejected.reason if candidate.rejected else list(candidate.sample.fields)
        for candidate in read(tmp_path, "x.parquet")
    ]
    assert outcomes == [["gif"], "not_an_image", "empty", "empty"]
    pq.write_table(texts(["a", "", None]), tmp_path / "y.parquet")
    rejects = [candidate.rejected for candidate in read(tmp_path, "y.parquet")]
    assert [reject.reason if reject else "kept" for reject in rejects] == ["kept", "empty", "empty"]


def test_wrong_options_are_recipe_errors_that_name_the_right_ones(tmp_path: Path) -> None:
    pq.write_table(pictures(1), tmp_path / "x.parquet")
    pq.write_table(pa.table({"number": [1]}), tmp_path / "n.parquet")
    (tmp_path / "empty").mkdir()
    for dataset, options, message in (
        ("x.parquet", {"image": "imgae"}, "no column 'imgae'; did you mean 'image'"),
        ("x.parquet", {"columns": ("captoin",)}, "no column 'captoin'; did you mean 'caption'"),
        ("n.parquet", {}, "name an image or text column; the columns are: number"),
        ("gone.parquet", {}, "no such file or folder"),
        ("./gone", {}, "no such file or folder"),
        ("../gone", {}, "outside of the recipe's folder"),
        ("a b c", {}, "expected a name like"),
        ("empty", {}, "no .parquet or .arrow file in the folder"),
    ):
        with pytest.raises(RecipeError, match=message):
            read(tmp_path, dataset, **options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
        ("texts.csv", "text,number\none,1\ntwo,2\n"),
        ("texts.tsv", "text\tnumber\none\t1\ntwo\t2\n"),
    ],
)
def test_another_table_is_refused_with_the_line_that_makes_parquet_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError, match="expected Parquet or Arrow") as refused:
        read(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    exec(str(refused.value).partition("in Python: ")[2], {})
    assert [candidate.sample.fields["txt"] for candidate in read(tmp_path, "texts.parquet")] == [b"one", b"two"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"<html>", b"ARROW1\0\0junk"])
def test_damaged_files_are_broken_sources(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(SourceBroken, match=r"x\.parquet: neither Parquet nor Arrow"):
        read(tmp_path, "x.parquet")


def test_a_column_damaged_in_the_middle_breaks_the_partition(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pictures(200), path, row_group_size=50, compression="gzip")
    content = bytearray(path.read_bytes())
    content[2000:2400] = b"\0" * 400
    path.write_bytes(content)
    with pytest.raises(SourceBroken, match=r"x\.parquet"):
        read(tmp_path, "x.parquet")


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(number: int = 0) -> dict[str, bytes | None]:
    return {"bytes": PNG + bytes([number]), "path": None}


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ([1.0, 2.0, None, 0.0, -1.0], pa.float64(), ["1", "2", None, "0", "-1"]),
        ([float("nan"), 0.5, 1e20], pa.float64(), [None, "0.5", "100000000000000000000"]),
        ([1.0, None], pa.float32(), ["1", None]),
        ([True, False, None], pa.bool_(), ["true", "false", None]),
        ([1, 0, None], pa.int8(), ["1", "0", None]),
        (["cat", "", None], pa.string(), ["cat", None, None]),
        ([["a", "b"], [], None], pa.list_(pa.string()), ['["a", "b"]', "[]", None]),
    ],
)
def test_labels_of_every_type_are_text_and_none_is_dropped(
    tmp_path: Path, values: list[object], kind: pa.DataType, labels: list[str | None]
) -> None:
    pictures_and_labels = {"image": pa.array([image()] * len(values), IMAGE), "label": pa.array(values, kind)}
    pq.write_table(pa.table(pictures_and_labels), tmp_path / "x.parquet")
    assert [candidate.sample.record.get("label") for candidate in read(tmp_path, "x.parquet")] == labels


def test_float_labels_of_a_class_label_have_its_names(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([image()] * 3, IMAGE), "label": pa.array([0.0, None, 1.0], pa.float64())})
    metadata = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    assert [candidate.sample.record.get("label") for candidate in read(tmp_path, "x.parquet")] == ["cat", None, "dog"]


def chosen(tmp_path: Path, columns: dict[str, pa.Array], **options: object) -> tuple[list[str], str]:
    """The fields of the first row, and what `stoker check` says."""
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    source = HuggingFace("x.parquet", **options)  # type: ignore[arg-type]  # options of a test
    source.check(context(tmp_path))
    (line,) = source.describe_input(context(tmp_path))
    (candidate, *_) = read(tmp_path, "x.parquet", **options)
    return sorted(candidate.sample.fields), line


def test_a_struct_with_bytes_is_an_image_before_bare_bytes_are(tmp_path: Path) -> None:
    columns = {
        "embedding": pa.array([b"\0" * 64]),
        "picture": pa.array([image()], IMAGE),
        "mask": pa.array([image(1)], IMAGE),
    }
    fields, line = chosen(tmp_path, columns)
    assert fields == ["png"]
    assert "image = picture (struct<" in line
    assert line.endswith("not read: embedding, mask")
    assert "image = mask" in chosen(tmp_path, columns, image="mask")[1]


def test_a_text_table_with_bytes_in_it_is_a_text_table(tmp_path: Path) -> None:
    columns = {"embedding": pa.array([b"\0" * 64]), "text": pa.array(["a"]), "caption": pa.array(["b"])}
    for options in ({}, {"text": "text"}, {"text": "caption"}):
        fields, line = chosen(tmp_path, columns, **options)
        assert fields == ["txt"]
        assert line.startswith(f"x.parquet: no image; text = {options.get('text', 'text')} (string)")
    assert chosen(tmp_path, columns | {"jpg": pa.array([PNG])}, text="caption")[0] == ["png", "txt"]


def test_bare_bytes_are_an_image_if_nothing_else_may_be_meant(tmp_path: Path) -> None:
    assert chosen(tmp_path, {"scan": pa.array([PNG]), "number": pa.array([1])})[0] == ["png"]
    with pytest.raises(RecipeError, match="which column is the image: scan, thumbnail"):
        chosen(tmp_path, {"scan": pa.array([PNG]), "thumbnail": pa.array([PNG])})
    assert chosen(tmp_path, {"scan": pa.array([PNG]), "thumbnail": pa.array([PNG])}, image="scan")[0] == ["png"]
    with pytest.raises(RecipeError, match=r"image = 'number': the column holds int64"):
        chosen(tmp_path, {"scan": pa.array([PNG]), "number": pa.array([1])}, image="number")
    with pytest.raises(RecipeError, match="label 'label' holds binary"):
        chosen(tmp_path, {"image": pa.array([image()], IMAGE), "label": pa.array([b"x"])})


@pytest.mark.parametrize("kind", [pa.list_(IMAGE), pa.large_list(IMAGE)])
def test_lists_of_images_are_samples_with_several_fields(tmp_path: Path, kind: pa.DataType) -> None:
    gif = {"bytes": b"GIF89a", "path": "a.gif"}
    rows = [
        [image(1), gif, image(2)],
        [image(3)],
        [],
        None,
        [image(4), {"bytes": None, "path": "x"}],
        [gif, {"bytes": b"?"}],
    ]
    pq.write_table(pa.table({"images": pa.array(rows, kind), "text": list("abcdef")}), tmp_path / "x.parquet")
    candidates = read(tmp_path, "x.parquet")
    assert sorted(candidates[0].sample.fields) == ["0.png", "1.gif", "2.png", "txt"]
    assert candidates[0].sample.fields["2.png"] == PNG + b"\2"
    assert sorted(candidates[1].sample.fields) == ["0.png", "txt"]
    rejects = [candidate.rejected for candidate in candidates[2:]]
    assert [reject and reject.reason for reject in rejects] == ["empty", "empty", "empty", "not_an_image"]
    assert str(rejects[2]).find("image 2 of 2") > 0


def test_nested_values_and_dates_are_json_in_the_record(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a"],
            "tags": pa.array([["x", None]]),
            "box": pa.array([{"at": datetime(2026, 1, 2, tzinfo=UTC), "score": float("inf")}]),
            "day": pa.array([date(2026, 1, 2)]),
            "code": pa.array([b"\xff"]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (candidate,) = read(tmp_path, "x.parquet", columns=("tags", "box", "day", "code"))
    record = candidate.sample.record
    assert record["row_tags"] == ["x", None]
    assert record["row_box"] == {"at": "2026-01-02T00:00:00+00:00", "score": None}
    assert (record["row_day"], record["row_code"]) == ("2026-01-02", "/w==")
    pq.write_table(pa.table({"text": ["a"], "tags": [["x" * 2_000_000]]}), tmp_path / "x.parquet")
    (candidate,) = read(tmp_path, "x.parquet", columns=("tags",))
    assert candidate.rejected is not None
    assert candidate.rejected.reason == "too_large"


def test_all_columns_are_kept_unless_they_are_left_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "label": [0, 1, 2],
            "score": [0.5, None, 1.5],
            "caption": ["one", "two", None],
            "licence": ["CC0-1.0", None, "MIT"],
            "group": ["g", "g", "h"],
            "width": [1, 2, 3],
            "tags": [["x"], [], None],
            "html": ["<p>", "ä" * 10_001, "ä" * 10_000],
            "thumb": pa.array([b"1", b"2", b"3"]),
            "2": [1, 2, 3],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    found = read(tmp_path, "x.parquet")
    records = [candidate.sample.record for candidate in found]
    assert [record["row_score"] for record in records] == [0.5, None, 1.5]
    assert [record["caption"] for record in records] == ["one", "two", None]
    assert [record.get("licence") for record in records] == ["CC0-1.0", None, "MIT"]
    assert [record["row_tags"] for record in records] == [["x"], [], None]
    assert [record.get("row_html", "")[:1] for record in records] == ["<", "", "ä"]
    unfit = {"column 2": 1}
    assert [dict(candidate.omitted) for candidate in found] == [unfit, unfit | {"column html": 1}, unfit]
    assert (records[0]["row_group"], records[0]["row_width"]) == ("g", 1)
    assert {"group", "width", "row_thumb", "row_2"}.isdisjoint(records[0])
    assert {record["licence"] for record in [c.sample.record for c in read(tmp_path, "x.parquet", licence="MIT")]} == {
        "MIT"
    }
    less = read(tmp_path, "x.parquet", leave_out=("html", "t*", "score"))[0].sample.record
    assert set(records[0]) - set(less) == {"row_html", "row_tags", "row_score"}
    assert set(read(tmp_path, "x.parquet", columns=("group", "width"), leave_out=("width",))[0].sample.record) == {
        *("url", "dataset", "config", "dataset_split", "row", "label", "group", "sha256")
    }
    with pytest.raises(RecipeError, match="no column 'htm'; did you mean 'html'"):
        read(tmp_path, "x.parquet", leave_out=("htm",))
    for pattern in ("htm*x", "htm?", "[h]tml", "H*"):
        with pytest.raises(RecipeError, match="no column"):
            HuggingFace("x.parquet", leave_out=("t*", pattern)).check(context(tmp_path))
    (line,) = HuggingFace("x.parquet").describe_input(context(tmp_path))
    assert line.endswith("columns = score, caption, licence, group, width, tags, html; not read: thumb, 2")


def test_columns_that_their_names_or_number_leave_out_are_counted(tmp_path: Path) -> None:
    unfit = ["2020", "1st_place", "$price", "-x", "b\na\n", "n" * 61]
    columns = {"text": ["a", "b"], "a[0]": [1, 2], "a0": [1, 2]} | {name: [1, None] for name in unfit}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    for candidate in read(tmp_path, "x.parquet"):
        names = {"column 2020", "column 1st_place", "column $price", "column -x", "column b?a?", f"column {'n' * 61}"}
        assert dict(candidate.omitted) == dict.fromkeys(names, 1)
    left = read(tmp_path, "x.parquet", leave_out=("a[0]", "2020", "n*", "1st*", "$*", "-*", "b*"))[0]
    assert "row_a0" in left.sample.record
    assert ("row_a[0]" in left.sample.record, dict(left.omitted)) == (False, {})
    named = read(tmp_path, "x.parquet", columns=("2020",))[0]
    assert (named.sample.record["row_2020"], dict(named.omitted)) == (1, {})
    pq.write_table(pa.table({"text": ["a"]} | {f"c{n}": [n] for n in range(300)}), tmp_path / "x.parquet")
    (candidate,) = read(tmp_path, "x.parquet")
    assert sum(name.startswith("row_") for name in candidate.sample.record) == 256
    assert sorted(candidate.omitted) == sorted(f"column c{n}" for n in range(256, 300))


def test_text_that_is_not_utf_8_is_a_reject_of_its_row(tmp_path: Path) -> None:
    text = pa.array([b"a", b"caf\xe9", b"b"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text, "caption": ["x", "y", "z"]}), tmp_path / "x.parquet")
    rejects = [candidate.rejected and candidate.rejected.reason for candidate in read(tmp_path, "x.parquet")]
    assert rejects == [None, "not_utf8", None]
    pq.write_table(pa.table({"caption": text, "text": ["x", "y", "z"]}), tmp_path / "x.parquet")
    rejects = [
        candidate.rejected and candidate.rejected.reason
        for candidate in read(tmp_path, "x.parquet", columns=("caption",))
    ]
    assert rejects == [None, "not_utf8", None]
    found = read(tmp_path, "x.parquet")  # a column that nobody named rejects no row
    assert [candidate.rejected for candidate in found] == [None, None, None]
    assert [dict(candidate.omitted) for candidate in found] == [{}, {"column caption": 1}, {}]


def test_partitions_that_are_read_as_before_are_the_same_as_before(tmp_path: Path) -> None:
    def payload(table: pa.Table, **options: object) -> set[str]:
        pq.write_table(table, tmp_path / "x.parquet")
        source = HuggingFace("x.parquet", **options)  # type: ignore[arg-type]  # options of a test
        return set(next(iter(source.partitions(context(tmp_path)))).payload)

    before = {"file", "start", "stop", "first"}
    assert payload(pictures(2), columns=("caption",)) == before
    assert payload(texts(["a"])) == before
    assert payload(pictures(2), leave_out=("*",)) == before
    assert payload(pictures(2)) == before | {"reading"}
    assert payload(pa.table({"text": ["a"], "label": [1.0]})) == before | {"reading"}
    assert payload(pa.table({"text": ["a"], "vector": [b"a"]})) == before | {"reading"}
    assert payload(pa.table({"text": ["a"], "tags": [["a"]]}), columns=("tags",)) == before | {"reading"}


@pytest.mark.slow  # importing datasets takes seconds
@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_lists_of_images_that_datasets_wrote_to_disk_are_read(tmp_path: Path, form: str) -> None:
    datasets = pytest.importorskip("datasets")
    photos = [picture(24, 16, seed) for seed in range(3)]
    features = datasets.Features({"images": datasets.Sequence(datasets.Image()), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"images": [photos[:2], photos[2:], []], "text": ["a", "b", "c"]}, features)
    if form == "folder":
        made.save_to_disk(str(tmp_path / "x"))
    else:
        made.to_parquet(str(tmp_path / "x"))
        (tmp_path / "x").rename(tmp_path / "x.parquet")
    candidates = read(tmp_path, "x" if form == "folder" else "x.parquet")
    assert [sorted(candidate.sample.fields) for candidate in candidates[:2]] == [
        ["0.png", "1.png", "txt"],
        ["0.png", "txt"],
    ]
    for field, photo in zip(("0.png", "1.png"), photos[:2], strict=True):
        assert decoded(candidates[0].sample.fields[field]).tobytes() == photo.tobytes()
    assert len(candidates) == 3


def test_a_column_that_would_fill_the_memory_is_left_out_and_counted_unless_an_option_names_it(tmp_path: Path) -> None:
    rows, length = 1000, 20_000
    mask = pa.ListArray.from_arrays(
        pa.array(range(0, (rows + 1) * length, length), pa.int32()), pa.array(bytearray(rows * length), pa.uint8())
    )
    pq.write_table(pa.table({"text": map(str, range(rows)), "n": range(rows), "mask": mask}), tmp_path / "a.parquet")
    candidates = read(tmp_path, "a.parquet")
    assert [candidate.sample.record["row_n"] for candidate in candidates] == list(range(rows))
    assert all(candidate.rejected is None for candidate in candidates)
    assert all(candidate.omitted == {"column mask": 1} for candidate in candidates)
    HuggingFace("a.parquet").check(context(tmp_path))
    told = list(HuggingFace("a.parquet").describe_input(context(tmp_path)))
    assert told[0].endswith("left out, too large to be read: mask")
    named = HuggingFace("a.parquet", columns=("mask",))
    for refused in (lambda: named.check(context(tmp_path)), lambda: read(tmp_path, "a.parquet", columns=("mask",))):
        with pytest.raises(SourceBroken, match=r"column 'mask.*' of row group 1 makes .* bytes"):
            refused()
    assert not read(tmp_path, "a.parquet", leave_out=("mask",))[0].omitted


def keys(folder: Path, rows: Sequence[tuple[object, str]], **options: object) -> dict[str, str]:
    """The key of each text of a table with a column ``id``."""
    columns = {"id": [key for key, _ in rows], "content": [text for _, text in rows], "views": list(range(len(rows)))}
    pq.write_table(pa.table(columns), folder / "x.parquet")
    candidates = read(folder, "x.parquet", **options)
    return {candidate.sample.fields["txt"].decode(): candidate.sample.key for candidate in candidates}


def test_a_key_column_makes_the_keys_so_that_rows_may_move(tmp_path: Path) -> None:
    before = keys(tmp_path, [(7, "seven"), (8, "eight")], key="id")
    after = keys(tmp_path, [(6, "six"), (8, "eight, mended"), (7, "seven")], key="id")
    assert after["seven"] == before["seven"]
    assert after["eight, mended"] == before["eight"]
    assert len({*before.values(), *after.values()}) == 3
    assert keys(tmp_path, [(7.0, "seven"), (None, "none")], key="id")["seven"] == before["seven"]
    assert keys(tmp_path, [(7, "seven")], key="id", columns=["views"])["seven"] == before["seven"]


def test_a_row_without_a_value_in_the_key_column_is_known_by_its_content(tmp_path: Path) -> None:
    before = keys(tmp_path, [(None, "none"), ("", "empty"), ("a", "some")], key="id")
    after = keys(tmp_path, [("a", "some"), ("", "empty"), (None, "none")], key="id")
    assert before == after
    assert len(set(before.values())) == 3


def test_without_a_key_column_keys_are_row_numbers_and_identities_are_not(tmp_path: Path) -> None:
    keys(tmp_path, [(1, "one"), (2, "two")])
    before = {candidate.identity: candidate.sample.key[-9:] for candidate in read(tmp_path, "x.parquet")}
    keys(tmp_path, [(9, "nine"), (1, "one"), (3, "two")])  # also with another number
    after = {candidate.identity: candidate.sample.key[-9:] for candidate in read(tmp_path, "x.parquet")}
    assert list(before.values()) == ["000000000", "000000001"]
    assert [after[identity] for identity in before] == ["000000001", "000000002"]


def test_a_key_column_must_be_there_and_hold_values(tmp_path: Path) -> None:
    keys(tmp_path, [(1, "one")])
    with pytest.raises(RecipeError, match="no column 'ids'; did you mean 'id'"):
        read(tmp_path, "x.parquet", key="ids")
    pq.write_table(pictures(2), tmp_path / "y.parquet")
    with pytest.raises(RecipeError, match="key 'image' holds Image; set key to a column of ids"):
        read(tmp_path, "y.parquet", key="image")
    assert [*HuggingFace("x.parquet", key="id").describe_input(context(tmp_path))] == [
        "x.parquet: no image; text = content (string); no label; key = id (int64); columns = id, views"
    ]
