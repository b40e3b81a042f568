"""Elements of a JSON array are read one by one: what json.loads reads is read, and what it refuses is refused."""

import io
import json
import random
import re
import time
from typing import Any

import pytest

from stoker.pipelines.tables import json_array
from stoker.pipelines.tables.json_array import NotAnArray, json_elements
from stoker.storage.strict_json import parse_json

_ONCE = 1 << 19  # bytes that are read ahead, at most, while elements are small
_ALPHABET = ' \n\t[]{}":,\\u0eE+-.159truefalsn\x00ä😀'
VALUES = [
    {}, [], "", "a", "[1, 2]", '"\\', "ä😀", 0, -1.5e-7, 12345678901234567890, True, False, None,
    {"url": "u", "caption": "é"},
    [[], {"a": [{}]}], "\ud83d", {"deep": [[[["x"]]]]}, float("inf"),
]  # fmt: skip


def elements(content: bytes, encoding: str = "utf-8") -> list[Any]:
    return list(json_elements(io.BytesIO(content), encoding=encoding))


def written(values: list[Any], chance: random.Random) -> str:
    return json.dumps(values, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 0, 3]))


def check(text: str) -> None:
    """The elements are those of json.loads, or there is an error where it has one."""
    try:
        expected = parse_json(text)
    except (ValueError, RecursionError):
        expected = None
    if isinstance(expected, list):
        assert repr(elements(text.encode())) == repr(expected), text
        return
    with pytest.raises(NotAnArray):
        elements(text.encode())


@pytest.mark.parametrize("read_size", [1, 2, 7, 64, 1 << 18])
def test_random_arrays_and_damaged_ones_are_read_as_json_says(monkeypatch: pytest.MonkeyPatch, read_size: int) -> None:
    monkeypatch.setattr(json_array, "_READ_SIZE", read_size)
    chance = random.Random(read_size)
    for _ in range(400):
        text = written([chance.choice(VALUES) for _ in range(chance.randrange(6))], chance)
        text = text.encode("utf-8", "replace").decode()
        check(text)
        for _ in range(3):
            at = chance.randrange(len(text) + 1)
            text = (
                text[:at] + chance.choice(["", chance.choice(_ALPHABET), text[at:]]) + text[at + chance.randrange(3) :]
            )
            check(text)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
@pytest.mark.parametrize("read_size", [4, 5, 1 << 18])
def test_a_byte_order_mark_decides(monkeypatch: pytest.MonkeyPatch, encoding: str, read_size: int) -> None:
    monkeypatch.setattr(json_array, "_READ_SIZE", read_size)
    text = '[{"url": "http://a.example/ä😀"}, "b"]'
    for set_encoding in ("utf-8", "cp1252"):
        assert elements(("\ufeff" + text).encode(encoding), set_encoding) == json.loads(text)
    if encoding != "utf-8":
        with pytest.raises(NotAnArray, match=r"without a byte order mark; save it as UTF-8, or with one$"):
            elements(text.encode(encoding))
        with pytest.raises(NotAnArray, match=r"not UTF-(16|32) \(byte \d+\)"):
            elements(("\ufeff" + text + " ").encode(encoding)[:-1])


def test_half_a_character_of_utf16_is_left_to_its_row() -> None:
    content = '\ufeff["\ud83d", "b"]'.encode("utf-16-le", "surrogatepass")
    assert elements(content) == ["\ud83d", "b"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_is_not_of_the_encoding_is_told_with_its_byte_and_what_works(mark: bytes) -> None:
    found = list[Any]()
    with pytest.raises(NotAnArray) as error:
        found.extend(json_elements(io.BytesIO(mark + b'["a", "caf\xe9"]'), encoding="utf-8"))
    assert re.fullmatch(
        rf"not UTF-8 \(byte {11 + len(mark)}\); save it as UTF-8, or with a byte order mark as .*, or set encoding",
        str(error.value),
    )
    assert elements(b'["caf\xe9"]', "cp1252") == ["café"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a",\n "b"\n  "c"]', "element 2: Expecting ',' or ']': line 3 column 3"),
        ('["a",]', "element 2: Expecting value: line 1 column 6"),
        ('[,"a"]', "element 1: Expecting value: line 1 column 2"),
        ('["a"', "element 1: Expecting ',' or ']': line 1 column 5"),
        ('["a"],', "element 1: Extra data: line 1 column 6"),
        ('["a"] ["b"]', "element 1: Extra data: line 1 column 7"),
        ('["a", {"b": 1, "b": 2}]', "element 2: two values for 'b': line 1 column 7"),
        ('["a", {"b": tru}]', "element 2: Expecting value: line 1 column 13"),
        ('["a\nb"]', "element 1: Invalid control character at: line 1 column 4"),
        ("[1e]", "element 1: Expecting ',' or ']': line 1 column 3"),
        ("[" * 100_000, "element 1: lists or objects within each other, too deep: line 1 column 2"),
        (" ", "Expecting value: line 1 column 2"),
        ("\n\n[", "element 1: Expecting value: line 3 column 2"),
    ],
)
def test_a_fault_has_the_place_of_the_element(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    for size in (1 << 18, 3):
        monkeypatch.setattr(json_array, "_READ_SIZE", size)
        with pytest.raises(NotAnArray) as error:
            elements(text.encode())
        assert str(error.value) == f"not JSON: {message}"


def test_elements_before_a_fault_are_given() -> None:
    found = list[Any]()
    with pytest.raises(NotAnArray):
        found.extend(json_elements(io.BytesIO(b'["a", "b", c]'), encoding="utf-8"))
    reading = json_elements(io.BytesIO(b'["a", "b", c]'), encoding="utf-8")
    assert [next(reading), next(reading)] == ["a", "b"]


@pytest.mark.parametrize("content", ['"' + "a" * 70_000 + '"', "[" + "[]," * 30_000 + "[]]", "1" * 70_000])
def test_an_element_that_would_fill_the_memory_is_an_error(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(json_array, "MAX_ELEMENT", 60_000)
    for size in (1000, 1 << 18):
        monkeypatch.setattr(json_array, "_READ_SIZE", size)
        with pytest.raises(NotAnArray, match=r"element 2: (longer than 60000 characters|Exceeds the limit)"):
            elements(f'["b", {content}{" " * 100_000}]'.encode())
        assert len(elements(f'["b", "{"a" * 59_000}"]'.encode())) == 2


@pytest.mark.parametrize("unit", ["[],", '{"url": "a"},\n', "1 ,", " ", '"\\u00e4",'])
def test_no_more_is_read_ahead_than_an_element_may_have(unit: str) -> None:
    file = io.BytesIO(f"[{unit * (_ONCE // len(unit))}[]]".encode())
    at = 0
    for _ in json_elements(file, encoding="utf-8"):
        assert file.tell() <= at + _ONCE / 2 or unit == " "
        at = file.tell()
    assert at == len(file.getvalue())


@pytest.mark.parametrize(
    "unit", ["[],", "1,", '"a",', '{"url": "a"},', "\n", '["' + "a" * 90_000 + '"],', "[" + "[]," * 30_000 + "[]],"]
)
def test_time_grows_with_the_length(unit: str) -> None:
    def taken(length: int) -> float:
        file = io.BytesIO(f"[{unit * (length // len(unit))}[]]".encode())
        began = time.process_time()
        for _ in json_elements(file, encoding="utf-8"):
            pass
        return time.process_time() - began

    for _attempt in range(3):  # a busy machine may slow one of them
        before, after = taken(300_000), taken(1_200_000)
        if after <= 6 * before + 0.1:
            return
    pytest.fail(f"four times the length takes {before:.2f} s, then {after:.2f} s")
