"""Rejected lines of a list are found by their number; chains of duplicates are followed to the sample that stays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.flows.report.lineage import events_of
from stoker.flows.report.refusals import all_refusals
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import parse
from stoker.pipelines.rejected import OUTCOME_CLASS
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from tests.flows.inspected_corpus import recipe
from tests.pipelines.pictures import packed, picture
from tests.site import FAST, Reply, Site


def test_each_line_of_a_list_is_found_and_read_is_kept_and_rejected(tmp_path: Path) -> None:
    with Site() as site:
        site.pages["/1.png"] = Reply(packed(picture(), "PNG"))
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
        [], ["duplicate_key"], ["bad_row"], ["empty"], ["bad_url"], []
    ]  # fmt: skip
    assert "a.csv:4: its quote is not closed before line 7" in found[4][0].detail
    assert [lineage.state for lineage in find_lineages(store, manifest, urls[0])] == ["kept", "rejected"]
    assert [lineage.reason for lineage in find_lineages(store, manifest, urls[5])] == ["gone"]
    assert sum(part.read for part in manifest.parts) == len(urls)


def test_a_reject_says_what_it_depends_on_also_where_its_reason_does_not_tell(tmp_path: Path) -> None:
    """A body that was cut on the way may be whole the next time; one that is short in itself will not be."""
    with Site() as site:
        image = packed(picture(), "PNG")
        site.pages |= {
            "/ok.png": Reply(image),
            "/cut.png": Reply(image, cut=100),
            "/short.png": Reply(image[:-500]),
            "/gone.png": Reply(b"", 410),
            "/no.png": Reply(b"", 404),
        }
        (tmp_path / "a.txt").write_text("\n".join(map(site.url, site.pages)), encoding="utf-8")
        document = {
            "corpus": "a",
            "source": {"name": "image_urls", "lists": "a.txt"},
            "limits": {"rejected_percent": 100},
        }
        store = MemoryStore()
        context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch")
        manifest = ingest(parse(document, root=tmp_path), store, context).manifest
        FAST.close()
        found = {path: find_lineages(store, manifest, site.url(path))[0] for path in site.pages}
    assert {path: (lineage.reason, lineage.outcome_class) for path, lineage in found.items()} == {
        "/ok.png": ("", None),
        "/cut.png": ("truncated", "moment"),
        "/short.png": ("truncated", "bytes"),
        "/gone.png": ("gone", "slow_moment"),
        "/no.png": ("gone", "moment"),
    }
    refused = {refusal.key: refusal.outcome_class for refusal in all_refusals(SampleReader(store), manifest)}
    assert refused == {one.key: one.outcome_class for one in found.values() if one.state == "rejected"}
    assert all(OUTCOME_CLASS not in lineage.record for lineage in found.values())
    for shard in manifest.shards:
        assert OUTCOME_CLASS not in records.decode(store.read(shard.index)).column_names


@dataclass(frozen=True)
class Copies(Source):
    """A text, one near it, a copy of that; and a text under two labels, with a copy without one."""

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition("all")

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        text = " ".join(f"word{number}" for number in range(300))
        other = text.replace("word", "term")
        for key, content, label in (
            ("stays", text, None),
            ("near", f"{text} end", None),
            ("copy", f"{text} end", None),
            ("cat", other, "cat"),
            ("dog", other, "dog"),
            ("bare", other, None),
        ):
            record = {"label": label} if label else {}
            yield Candidate(Sample(key, {"txt": content.encode()}, record))


def test_the_chain_of_witnesses_is_followed_to_the_sample_that_stays(tmp_path: Path) -> None:
    store = MemoryStore()
    made = recipe(Copies(), "copies", (ExactDuplicates(), NearDuplicateTexts()))
    manifest = ingest(made, store, Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch")).manifest
    found = {key: find_lineages(store, manifest, key)[0] for key in ("stays", "near", "copy", "cat", "dog", "bare")}
    ends = {key: (lineage.duplicate_of, lineage.chain, lineage.stays) for key, lineage in found.items()}
    assert ends == {
        "stays": ("", (), ""),
        "near": ("stays", (), "stays"),
        "copy": ("near", ("stays",), "stays"),
        "cat": ("dog", (), ""),
        "dog": ("cat", (), ""),
        "bare": ("cat", ("dog",), ""),
    }
    assert [event.text for event in events_of(found["copy"], {})][-2:] == ["near, 100 % similar", "stays"]
    assert events_of(found["dog"], {})[-1].text == "None: its counterpart was rejected, too."
    assert found["copy"].to_json()["stays"] == "stays"
