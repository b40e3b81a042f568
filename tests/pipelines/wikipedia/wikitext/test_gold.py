"""Short pages in the manner of each wiki come out as a reader sees them: ``gold.jsonl``, in our own words."""

import json
from collections import Counter
from pathlib import Path

import pytest

from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text

GOLD = [json.loads(line) for line in Path(__file__).with_name("gold.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", GOLD, ids=[f"{case['wiki']}-{number}" for number, case in enumerate(GOLD)])
def test_each_wikis_inline_templates_keep_their_text(case: dict[str, str]) -> None:
    assert plain_text(case["wikitext"], WikiLocale.of(case["wiki"])) == case["text"]


def test_templates_that_show_nothing_are_counted_by_name() -> None:
    dropped: Counter[str] = Counter()
    page = "Tin{{Cite book|title=x}} {{cite_book|title=y}} {{nowrap|5 kg}} {{Some {{nowrap|x}}|a [[b]]}}"
    page += "\n* {{cite book|title=z}}"
    assert plain_text(page, dropped=dropped) == "Tin 5 kg\nz"
    assert dropped == {"cite book": 2, "some x": 1}
