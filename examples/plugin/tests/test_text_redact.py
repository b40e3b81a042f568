"""E-mail addresses go and are counted."""

import pytest
from csv_plugin.text_redact import TextRedact

from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample
from stoker.testing import StepContract


class TestTextRedact(StepContract):
    @pytest.fixture
    def step(self) -> Step:
        return TextRedact()

    @pytest.fixture
    def samples(self) -> list[Sample]:
        return [Sample("a", {"txt": b"Ask ann@example.org."}, {"title": "A"}), Sample("b", {"txt": b"Ask nobody."})]


@pytest.mark.parametrize(
    ("text", "expected", "addresses"),
    [
        ("Ask ann@example.org.", "Ask <x>.", 1),
        ("a.b+c@mail.example.co.uk,d@e.fr", "<x>,<x>", 2),
        ("no@dot, @nobody, 3 @ 4.50, x@y..z", "no@dot, @nobody, 3 @ 4.50, x@y..z", 0),
        ("@" * 10_000 + "a" * 10_000, "@" * 10_000 + "a" * 10_000, 0),
    ],
)
def test_addresses_are_replaced_and_counted(text: str, expected: str, addresses: int) -> None:
    result = TextRedact(replacement="<x>")(Sample("a", {"txt": text.encode()}))
    assert result == Sample("a", {"txt": expected.encode()}, {"addresses": addresses})


def test_a_replacement_is_taken_as_it_is() -> None:
    result = TextRedact(replacement=r"\1")(Sample("a", {"txt": b"a@b.org"}))
    assert result == Sample("a", {"txt": rb"\1"}, {"addresses": 1})
