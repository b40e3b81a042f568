"""Rows of CSV files: the contract, and what is special about this source."""

from pathlib import Path

import pytest
from csv_plugin.csv_texts import CsvTexts

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.web.client import Web
from stoker.testing import SourceContract

ROWS = 'id,text,author\n1,"two\nlines",Ann\n2,,Bob\n3,x\n1,again,Ann\n\n4,h\u00e9llo,Bob\n'


def read(folder: Path, source: CsvTexts) -> list[Candidate]:
    context = Context(root=folder, web=Web(), scratch=folder / "scratch")
    return [candidate for part in source.partitions(context) for candidate in source.read(part, context)]


def outcomes(candidates: list[Candidate]) -> list[str]:
    """The text, or in brackets the reason."""
    return [
        f"({candidate.rejected.reason})" if candidate.rejected else candidate.sample.fields["txt"].decode()
        for candidate in candidates
    ]


class TestCsvTexts(SourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        (tmp_path / "a.csv").write_text(ROWS, encoding="utf-8")
        (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbftext;id;author\nfive;5;caf\xe9\nsix;6;\n")
        return CsvTexts(files="*.csv", key="id", columns=("author",), licence="CC0-1.0")


def test_every_row_is_a_sample_or_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS, encoding="utf-8")
    candidates = read(tmp_path, CsvTexts(files="*.csv", key="id", columns=("author",)))
    assert outcomes(candidates) == ["two\nlines", "(empty)", "(ragged_row)", "(duplicate_key)", "h\u00e9llo"]
    assert candidates[0].sample.record["author"] == "Ann"


def test_semicolons_marks_and_other_encodings_are_seen(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b'\xef\xbb\xbftext;author\nfive;caf\xe9\n"six; 6";Bob\n' + b"x" * 20 + b";Bob\n")
    candidates = read(tmp_path, CsvTexts(files="b.csv", columns=("author",), max_characters=10))
    assert outcomes(candidates) == ["(not_utf8)", "six; 6", "(too_long)"]
    assert candidates[0].sample.record["author"] == "caf\ufffd"


def test_a_row_keeps_its_key_when_others_come(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\none\ntwo\n")
    before = [candidate.sample.key for candidate in read(tmp_path, CsvTexts(files="*.csv"))]
    path.write_text("text\nzero\none\ntwo\n")
    assert [candidate.sample.key for candidate in read(tmp_path, CsvTexts(files="*.csv"))][1:] == before


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected a glob relative"):
        read(tmp_path, CsvTexts(files="/data/*.csv"))
    with pytest.raises(RecipeError, match="no files in"):
        read(tmp_path, CsvTexts(files="*.csv"))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecipeError, match=r"a.csv has no column 'text'; it has: a, b"):
        read(tmp_path, CsvTexts(files="*.csv"))
    with pytest.raises(RecipeError, match=r"a.csv has no column 'text'; it has: a, b"):
        CsvTexts(files="*.csv").check(Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch"))
    (tmp_path / "a.csv").write_bytes(b"text\n" + b"x\n" * (1 << 20))
    with pytest.raises(SourceBroken, match="more than max_megabytes = 1"):
        read(tmp_path, CsvTexts(files="*.csv", max_megabytes=1))
