"""Lines of a list that were rejected are found by their number."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.stores.memory import MemoryStore
from tests.site import FAST, Reply, Site


def test_each_line_of_a_list_is_found_and_read_is_kept_and_rejected(tmp_path: Path) -> None:
    with Site() as site:
        picture = BytesIO()
        Image.new("RGB", (64, 64)).save(picture, "PNG")
        site.pages["/1.png"] = Reply(picture.getvalue())
        urls = [site.url("/1.png"), site.url("/1.png#again"), '"unclosed', "", "words", site.url("/no.png")]
        (tmp_path / "a.csv").write_text("url\n" + "\n".join(urls), encoding="utf-8")
        document = {
            "corpus": "a",
            "source": {"name": "image_urls", "lists": "a.csv"},
            "limits": {"rejected_percent": 100},
        }
        store = MemoryStore()
        web = replace(FAST, requests_per_second=0)
        context = Context(root=tmp_path, web=web, scratch=tmp_path / "scratch")
        manifest = ingest(parse(document, root=tmp_path), store, context).manifest
        web.close()
    found = {line: find_lineages(store, manifest, f"a.csv:{line}") for line in range(2, 8)}
    assert [[lineage.reason for lineage in found[line]] for line in found] == [
        [], ["duplicate_key"], ["bad_url"], ["empty"], ["bad_url"], []
    ]  # fmt: skip
    assert "a.csv:4: its quote is not closed before line 7" in found[4][0].detail
    assert [lineage.state for lineage in find_lineages(store, manifest, urls[0])] == ["kept", "rejected"]
    assert [lineage.reason for lineage in find_lineages(store, manifest, urls[5])] == ["gone"]
    assert sum(part.read for part in manifest.parts) == len(urls)
