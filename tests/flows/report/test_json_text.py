"""JSON that a terminal shows and does not obey."""

import json

from stoker.flows.report.json_text import json_text


def test_every_value_comes_back_and_no_character_is_obeyed() -> None:
    value = {"é\x9b31m": ["\x1b]0;x\x07", "\u202egnp.exe", "\ud800", "\u2028", "日本"], "n": [1, 2.5, None, True]}
    text = json_text(value)
    assert json.loads(text) == value
    assert all(line.isprintable() for line in text.splitlines())
    assert "日本" in text


def test_what_json_lacks_is_null_or_text() -> None:
    assert json.loads(json_text({"a": float("inf"), "b": b"\x00\xff", "c": (1, 2)})) == {
        "a": None,
        "b": "00ff",
        "c": [1, 2],
    }
