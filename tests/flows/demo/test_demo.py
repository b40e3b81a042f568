"""The demo's recipes on the demo's site."""

from pathlib import Path

import pytest

from stoker.flows import demo
from stoker.flows.demo import server, site
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from tests.test_repository import REPO


@pytest.mark.parametrize(
    ("corpus", "kept", "rejected"),
    [
        (
            "digits",
            1797,
            {
                "corrupt": 1,
                "empty": 1,
                "exact_duplicate": 12,
                "forbidden": 1,
                "gone": 1,
                "no_label": 14,
                "not_an_image": 1,
                "opted_out": 1,
                "robots": 2,
                "too_many_pixels": 1,
                "too_small": 1,
                "truncated": 1,
            },
        ),
        ("film", None, {"near_duplicate": None}),
        ("handbook", None, {"namespace": None, "redirect": None, "too_short": None}),
    ],
)
def test_each_recipe_makes_its_corpus_from_the_site_and_says_what_was_refused(
    served: server.SiteServer, tmp_path: Path, corpus: str, kept: int | None, rejected: dict[str, int | None]
) -> None:
    recipe = demo.recipe_at(served.url, REPO / "recipes" / f"{corpus}.toml")
    web = Web(allow_private=True, requests_per_second=0)
    context = Context(root=recipe.root, web=web, scratch=tmp_path)
    store = MemoryStore()
    first = ingest(recipe, store, context)
    again = ingest(recipe, store, context)
    web.close()
    assert (first.new, again.new) == (True, False)
    found = first.manifest
    assert found.samples == kept or (kept is None and found.samples > 40)
    assert found.rejected == {reason: found.rejected[reason] if n is None else n for reason, n in rejected.items()}
    assert found.read == found.kept + sum(found.rejected.values())
    assert [path for path in served.requests if path.startswith(site.FORBIDDEN)] == []
    if corpus == "digits":
        assert served.requests["/digits/01/0000.png"] == 1
        assert served.requests[site.BUSY_ONCE] == 3  # busy, then read, and read again by the second run
