"""`stoker sql`, and `stoker show --where --by --sort`: what is printed and written."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stoker.flows.cli.cli import main
from stoker.flows.cli.curation import query
from stoker.storage.stores.directory import DirectoryStore
from stoker.testing import sample_corpus


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    memory, _ = sample_corpus(12)
    folder = tmp_path / "store"
    directory = DirectoryStore(folder)
    for stored in memory.list(""):
        directory.write(stored.key, memory.read(stored.key))
    return str(folder)


def test_rows_are_printed_with_tabs_as_csv_as_json_or_written(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select = "select label, key, [1, 2] as l from samples where key >= 'n0010' order by label"
    assert main(["sql", "numbers", select, "--store", store]) == 0
    assert capsys.readouterr().out == "label\tkey\tl\n2\tn0010\t[1, 2]\n3\tn0011\t[1, 2]\n"
    assert main(["sql", "numbers", select, "--csv", "--store", store]) == 0
    assert capsys.readouterr().out == 'label,key,l\r\n2,n0010,"[1, 2]"\r\n3,n0011,"[1, 2]"\r\n'
    assert main(["sql", "numbers", select, "--json", "--store", store]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["columns"] == ["label", "key", "l"]
    assert answer["rows"][1] == {"label": "3", "key": "n0011", "l": [1, 2]}
    file = tmp_path / "rows.parquet"
    assert main(["sql", "numbers", select, "--parquet", str(file), "--store", store]) == 0
    assert pq.read_table(file)["key"].to_pylist() == ["n0010", "n0011"]
    assert main(["sql", "numbers", select, "--parquet", str(file), "--store", store]) == 2
    assert [path.name for path in tmp_path.glob("*.parquet*")] == ["rows.parquet"]


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--parquet", "rows.parquet"]])
def test_values_that_have_no_such_form_are_refused_in_one_line(
    form: list[str], store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = "interval 1 month" if "--parquet" in form else "date '20000-01-01'"
    assert main(["sql", "numbers", f"select {value} as d", "--store", store, *form]) == 1
    out, error = capsys.readouterr()
    assert not out
    assert re.fullmatch("stoker: numbers@1: .*CAST\\(d AS VARCHAR\\)\n", error)
    assert not list(Path().glob("rows.parquet*"))


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_file_in_no_folder_is_refused_in_one_line(
    folder: str, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / folder / "rows.parquet"
    assert main(["sql", "numbers", "select 1", "--store", store, "--parquet", str(path)]) == 2
    assert re.fullmatch(f"stoker: sql: --parquet {path}: .*; name a file in another folder\n", capsys.readouterr().err)


def test_on_a_terminal_only_the_first_rows_are_shown(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(query, "_MAX_ROWS", 3)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["sql", "numbers", "select key from samples order by key", "--store", store]) == 0
    out, error = capsys.readouterr()
    assert "n0002" in out
    assert "n0003" not in out
    assert "9 more rows" in error


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_a_terminal_does_not_obey_what_is_in_the_rows(
    form: list[str], store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sql", "numbers", "select key, chr(27) || '[2J' AS told from samples limit 1", "--store", store]
    assert main([*words, "--csv"]) == 0
    assert capsys.readouterr().out == "key,told\r\nn0000,\x1b[2J\r\n", "a pipe is exact"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert main([*words, *form]) == 0
    out = capsys.readouterr().out
    assert "[2J" in out
    assert [line for line in out.splitlines() if not line.isprintable()] == []


def test_on_a_narrow_terminal_what_is_cut_or_left_out_is_told(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # of 80 columns
    wide = ", ".join(f"repeat('{number % 10}', 40) AS column_{number:02d}" for number in range(12))
    assert main(["sql", "numbers", f"select key, {wide} from samples limit 1", "--store", store]) == 0
    out, error = capsys.readouterr()
    head, row = out.splitlines()
    assert all(len(line) <= 80 for line in (head, row))
    shown = head.split()
    assert shown == ["key", *(f"column_{number:02d}" for number in range(len(shown) - 1))]
    assert len(shown) > 4
    assert all(cell.endswith("…") and len(cell) >= 8 for cell in row.split()[1:])
    left = ", ".join(f"column_{number:02d}" for number in range(len(shown) - 1, 12))
    assert f"{13 - len(shown)} more columns: {left}; a pipe" in error
    assert "values that end in … are longer" in error
    assert main(["sql", "numbers", "select key, 'whole' as told from samples limit 1", "--store", store]) == 0
    out, error = capsys.readouterr()
    assert (out.split(), error) == (["key", "told", "n0000", "whole"], "")


def test_errors_are_one_line_and_refused(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for select in ("drop table samples", "select nope from samples", "select * from '/etc/passwd'"):
        assert main(["sql", "numbers", select, "--store", store]) == 1
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        assert error.startswith("stoker: numbers@1: ")


def test_show_counts_and_lists_the_samples_of_an_expression(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "numbers", "--where", "key > 'n0009'", "--sort", "+label", "--store", store]) == 0
    out, error = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["key", "n0010", "n0011"]
    assert "2 of 12 samples" in error
    assert main(["show", "numbers", "--by", "split", "--where", "key > 'n0009'", "--store", store]) == 0
    assert capsys.readouterr().out.splitlines() == ["split\tsamples\tpercent", "train\t2\t100.0"]
    assert main(["show", "numbers", "--sort", "label", "--json", "--store", store]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["label"] == "3"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--by", "lable"], 1, "no column 'lable'; did you mean 'label'?"),
        (["--sort", "x"], 1, "no column 'x'"),
        (["--where", "count(*) > 1"], 1, "--where: it calls count_star"),
        (["--where", "true) UNION SELECT 1 --"], 1, "--where: no SQL expression"),
        (["--where", "nope = 1"], 1, "nope"),
        (["--by", "label", "--sort", "key"], 2, "--sort label"),
    ],
)
def test_a_wrong_expression_or_column_is_one_line(
    flags: list[str], code: int, message: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "numbers", *flags, "--store", store]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
