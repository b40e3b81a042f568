"""A table metadata.csv, .jsonl or .parquet gives the files that it names their columns, as in an imagefolder."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.sources.local_files import LocalFiles
from tests.fakes import context
from tests.pipelines.sources.test_local_files import PNG, outcome, put, read

ROWS = "file_name,label,species,count,caption\na.png,cat,felis,3,\nsub/b.png,dog,canis,12,a dog\n"
FILES = {"a.png": PNG, "sub/b.png": PNG, "c.png": PNG}


def records(folder: Path, **options: Any) -> dict[str, dict[str, object]]:
    """What the records of the kept files say besides what a path tells."""
    return {
        candidate.sample.record["url"].removeprefix("file:"): {
            name: value for name, value in candidate.sample.record.items() if name not in ("url", "title", "sha256")
        }
        for candidate in read(folder, **options)
        if not candidate.rejected
    }


def test_the_columns_of_a_table_come_into_the_records_of_the_files_that_it_names(tmp_path: Path) -> None:
    put(tmp_path, FILES | {"metadata.csv": ROWS.encode(), "a.json": b'{"label": "lynx"}'})
    found = records(tmp_path)
    assert found == {
        "a.png": {"label": "lynx", "species": "felis", "count": 3},
        "sub/b.png": {"label": "dog", "species": "canis", "count": 12, "caption": "a dog"},
        "c.png": {},
    }
    assert records(tmp_path, files="*.png")["a.png"] == found["a.png"]
    assert records(tmp_path, leave_out=("spec*",))["sub/b.png"] == {"label": "dog", "count": 12, "caption": "a dog"}
    source, where = LocalFiles(files="."), context(tmp_path)
    preview = [candidate.sample.record.get("species") for candidate in source.preview(where)]
    assert sorted(preview, key=str) == [None, "canis", "felis"]
    assert outcome(read(tmp_path, sidecars=False))["metadata.csv"] == "unsupported_format"


def test_jsonl_and_parquet_tables_of_folders_keep_their_types(tmp_path: Path) -> None:
    put(
        tmp_path,
        FILES | {"metadata.jsonl": b'{"file_name": "a.png", "box": [1, 2]}\n{"file_name": "c.png", "n": "7"}\n'},
    )
    pq.write_table(pa.table({"file_name": ["b.png"], "score": [0.5]}), tmp_path / "sub" / "metadata.parquet")
    assert records(tmp_path) == {"a.png": {"box": [1, 2]}, "c.png": {"n": "7"}, "sub/b.png": {"score": 0.5}}


def test_rows_that_cannot_be_used_are_rejects_with_their_place_and_cost_no_file(tmp_path: Path) -> None:
    more = "gone.png,,,,\n../x.png,,,,\na.png,again,,,\nb,c,d,e,f,g\n,x,,,\n"
    put(tmp_path, FILES | {"metadata.csv": (ROWS + more).encode()})
    rejects = [candidate.rejected for candidate in read(tmp_path) if candidate.rejected]
    assert {reject.reason for reject in rejects} == {"bad_row"}
    assert [reject.detail for reject in rejects] == [
        "metadata.csv:4: there is no file gone.png",
        "metadata.csv:5: file_name '../x.png' leads out of the folder",
        "metadata.csv:6: metadata.csv:2 names the same file",
        "metadata.csv:7: 6 columns, but the first line has 5",
        "metadata.csv:8: no file_name",
    ]
    assert len(records(tmp_path)) == 3


def test_a_row_that_changes_is_read_again_and_a_folder_without_tables_is_planned_as_before(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    (bare,) = LocalFiles(files=".").partitions(context(tmp_path))
    assert "rows" not in bare.payload
    put(tmp_path, {"metadata.csv": ROWS.encode()})
    (first,) = LocalFiles(files=".").partitions(context(tmp_path))
    put(tmp_path, {"metadata.csv": ROWS.replace("canis", "wolf").encode()})
    (second,) = LocalFiles(files=".").partitions(context(tmp_path))
    assert first != second


def test_check_tells_what_tables_are_read_and_how_another_could_be(tmp_path: Path) -> None:
    put(tmp_path, FILES | {"metadata.csv": (ROWS + "no.png,,,,\n").encode(), "labels.csv": b"image,label\na.png,cat\n"})
    assert list(LocalFiles(files=".").describe_input(context(tmp_path))) == [
        "metadata.csv, for the files that file_name names: label, species, count, caption",
        "not read: metadata.csv:4: there is no file no.png",
        "not read: labels.csv: if it describes the files, call it metadata.csv (or .jsonl, .parquet), with their "
        "paths in a column file_name; its column label is their label",
    ]


def test_a_file_of_the_name_without_the_column_or_outside_of_the_folder_is_no_table(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"in/a.png": PNG, "in/metadata.csv": b"image,label\na.png,cat\n", "out.csv": b"file_name,label\na.png,x\n"},
    )
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "metadata.csv").symlink_to(tmp_path / "out.csv")
    assert outcome(read(tmp_path, files="in")) == {
        "a.png": "png",
        "metadata.csv": "unsupported_format",
        "sub/metadata.csv": "outside",
    }


def test_a_damaged_table_ends_the_planning_with_its_name(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": PNG, "metadata.parquet": b"PAR1 no"})
    with pytest.raises(SourceBroken, match=r"metadata\.parquet.*cannot be read"):
        read(tmp_path)
