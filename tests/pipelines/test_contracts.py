"""Every source, step and rule that a recipe can name keeps its contract: a new one is tested by existing."""

import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.registry import find, names
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.source import Context, Source
from stoker.pipelines.sources.hugging_face import HuggingFace
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.sources.local_files import LocalFiles
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from stoker.pipelines.stages.measure import measure
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.step import Step
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.testing import RuleContract, SourceContract, StepContract
from stoker.testing.contracts.component import example_of
from tests.pipelines.films import film
from tests.pipelines.pictures import packed, picture
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import Reply, Site

PROSE = "The old bridge stands where the river is widest; in spring the water comes up to its second stone. " * 5


def example(part: type[Source] | type[Step] | type[Rule]) -> Recipe:
    """The recipe of the part's own example."""
    around = {"corpus": "example", "source": {"name": "local_files", "files": "."}}
    return parse(around | tomllib.loads(example_of(part.__doc__)), root=Path())


class TestEverySource(SourceContract):
    @pytest.fixture
    def context(self, tmp_path: Path) -> Iterator[Context]:
        web = Web(allow_private=True, requests_per_second=0, attempts=1, timeout_s=5, deadline_s=10)
        yield Context(root=tmp_path, web=web, scratch=tmp_path / "scratch")
        web.close()

    @pytest.fixture
    def site(self) -> Iterator[Site]:
        with Site() as site:
            yield site

    @pytest.fixture(params=names(Source))
    def source(self, request: pytest.FixtureRequest, tmp_path: Path, site: Site) -> Source:
        (tmp_path / "input").mkdir()
        made: Source = getattr(self, request.param)(tmp_path / "input", site)
        return made

    def local_files(self, folder: Path, site: Site) -> Source:
        files = {"a.png": packed(picture(), "PNG"), "a.txt": b"its caption", "b.txt": b"words", "c.bin": b"\1\2"}
        for name, payload in files.items():
            (folder / name).write_bytes(payload)
        return LocalFiles(files="input")

    def image_urls(self, folder: Path, site: Site) -> Source:
        site.pages["/a.jpg"] = Reply(packed(picture()), headers={"Content-Type": "image/jpeg"})
        urls = [site.url("/a.jpg"), site.url("/missing.jpg"), site.url("/a.jpg#again"), "no URL"]
        (folder / "urls.txt").write_text("\n".join(urls))
        return ImageUrls(lists="input/urls.txt")

    def hugging_face(self, folder: Path, site: Site) -> Source:
        pq.write_table(pa.table({"text": ["one", "", None, "four"], "label": [0, 1, 0, 1]}), folder / "x.parquet")
        return HuggingFace("input/x.parquet", rows_per_partition=3)

    def video_frames(self, folder: Path, site: Site) -> Source:
        film(folder / "a.mp4", [0, 500, 1000, 1500])
        (folder / "b.mp4").write_bytes(b"no video")
        return VideoFrames(videos=("input/*.mp4",))

    def wikipedia_dump(self, folder: Path, site: Site) -> Source:
        (folder / "x.xml").write_bytes(dump(page(1, "Some text."), page(2, "Talk", ns=1), page(3, "More text.")))
        return WikipediaDump("input/x.xml")


class TestEveryStep(StepContract):
    @pytest.fixture(params=names(Step))
    def step(self, request: pytest.FixtureRequest) -> Step:
        (step,) = example(find(Step, request.param)).steps
        return step

    @pytest.fixture
    def samples(self) -> Sequence[Sample]:
        image = picture(320, 240)
        return [
            Sample("text", {"txt": PROSE.encode(), "cls": b"3"}, {"title": "A bridge", "label": "3"}),
            Sample("jpeg", {"jpg": packed(image)}, {"title": "Noise"}, {"fetched_at": "2026-01-01T00:00:00+00:00"}),
            Sample("png", {"png": packed(image.convert("LA"), "PNG"), "txt": b"A caption."}),
            Sample("thread", {"png": packed(picture(2000, 2), "PNG")}),
        ]


def records_of(samples: Sequence[Sample]) -> pa.Table:
    """Their records with what is measured of every sample."""
    rows = []
    for sample in samples:
        measures = measure(sample)
        assert isinstance(measures, dict), measures
        rows.append({"key": sample.key, "group": sample.key, **sample.record, **measures})
    columns = sorted({name for row in rows for name in row})
    return pa.table({name: [row.get(name) for row in rows] for name in columns})


@lru_cache(maxsize=1)
def alike() -> pa.Table:
    """A text and an image, eight that are equal or nearly equal to each, under names of their own, and another."""
    image = picture(320, 240, seed=1)
    samples = [Sample("text", {"txt": PROSE.encode()}), Sample("image", {"png": packed(image, "PNG")})]
    for number in range(8):
        samples.append(Sample(f"text-{number}", {"txt": (PROSE + "Yes. " * (number % 2)).encode()}))
        samples.append(Sample(f"image-{number}", {"jpg": packed(image, quality=95 - number % 2)}))
    samples.append(Sample("other", {"png": packed(picture(320, 240, seed=2), "PNG")}))
    return records_of(samples)


class TestEveryRule(RuleContract):
    @pytest.fixture(params=names(Rule))
    def rule(self, request: pytest.FixtureRequest) -> Rule:
        (rule,) = example(find(Rule, request.param)).rules
        return rule

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """With a corpus ``benchmark`` that holds one of the texts."""
        (tmp_path / "text.txt").write_text(PROSE)
        document = {"corpus": "benchmark", "source": {"name": "local_files", "files": "text.txt"}}
        store = MemoryStore()
        ingest(parse(document, root=tmp_path), store, Context(tmp_path, Web(), tmp_path / "scratch"))
        return store

    @pytest.fixture
    def records(self) -> pa.Table:
        return alike()


class TestSamplesOfOneContentUnderTwoLabels(RuleContract):
    witness_is_kept = False  # neither label can be trusted, so both go

    @pytest.fixture
    def rule(self) -> Rule:
        return ExactDuplicates(conflicts="drop")

    @pytest.fixture
    def records(self) -> pa.Table:
        return records_of([Sample(key, {"txt": b"same"}, {"label": key}) for key in "abc"])
