"""Rows of local data sets, read without any library."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.source import Candidate
from stoker.pipelines.sources.hugging_face import HuggingFace
from tests.fakes import context

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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
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
