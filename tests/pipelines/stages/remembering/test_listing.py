"""The pictures of a site are remembered one by one, as those of a list are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import ListedSource
from stoker.pipelines.stages.remembering.counting import count_remembered
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.verification.verify import verify
from stoker.storage.versions.version import Version
from tests.pipelines.stages.remembering.world import World
from tests.site import Reply, Site
from tests.system.old_store.inputs import picture


class Crawled(World):
    """A site whose pages show pictures by their numbers; the first page links the others."""

    steps: Sequence[dict[str, object]] = ()
    store_options: Mapping[str, object] = MappingProxyType({})

    @property
    def recipe(self) -> Recipe:
        source = {"name": "image_urls", "start": self.site.url("/"), "partition_urls": 4} | self.options
        limits = {"rejected_percent": 100}
        return parse(
            {
                "corpus": "birds",
                "source": source,
                "limits": limits,
                "memory": self.memory,
                "steps": list(self.steps),
                "store": dict(self.store_options),
            },
            root=self.folder,
        )

    def asked(self) -> list[int]:
        """The numbers of the pictures that were asked for, without pages."""
        paths, self.seen = self.site.pages_asked[self.seen :], len(self.site.pages_asked)
        return sorted(int(path[1:].removesuffix(".jpg")) for path in paths if path.endswith(".jpg"))

    def page(self, path: str, *numbers: int, head: str = "", links: str = "") -> None:
        images = "".join(f'<img src="/{number}.jpg" alt="picture {number}">' for number in numbers)
        text = f"<html><head>{head}</head><body>{images}{links}</body></html>"
        self.site.pages[path] = Reply(text.encode(), headers={"Content-Type": "text/html"})

    def kept(self) -> set[str]:
        manifest = self.run(days=0)[0].manifest
        assert verify(self.store, manifest).problems == ()
        rows = Version(self.store, manifest).records(["url"]).read_all().to_pylist()
        return {row["url"].removeprefix(self.site.url("/")) for row in rows}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Crawled]:
    with Site() as site:
        world = Crawled(tmp_path, site)
        world.serve(*range(10))
        world.page("/", *range(6), links='<a href="/more">more</a>')
        world.page("/more", *range(6, 10))
        yield world


def files(*numbers: int) -> set[str]:
    return {f"{number}.jpg" for number in numbers}


def test_a_picture_that_failed_is_asked_again_after_waits_and_found_when_it_heals(world: Crawled) -> None:
    world.site.pages["/3.jpg"] = Reply(b"", 404)
    first, _ = world.run()
    assert first.manifest.rejected == {"gone": 1}
    asked = [day for day in range(1, 20) if 3 in world.run()[1]]
    assert asked == [1, 2, 4, 8, 16]
    assert world.run(days=0)[1] == []
    assert world.run(again=Again(all=True))[1] == [3]
    (found,) = find_lineages(world.store, first.manifest, world.url(3))
    assert len(found.attempts.made) == 7
    world.serve(3)
    published, asked_now = world.run(days=31)
    assert (published.new, asked_now, published.manifest.rejected) == (True, [3], {})
    assert world.kept() == files(*range(10))


def test_rejects_for_a_reason_are_asked_for_on_demand(world: Crawled) -> None:
    world.site.pages["/3.jpg"] = Reply(b"no picture at all")
    world.run()
    assert world.run()[1] == []
    world.serve(3)
    assert world.run(again=Again(reasons=("not_an_image",)))[1] == [3]
    assert world.kept() == files(*range(10))


def test_a_page_that_failed_is_read_by_the_next_run(world: Crawled) -> None:
    world.site.pages["/more"] = Reply(b"", 404)
    first, _ = world.run()
    assert (first.manifest.rejected, first.manifest.samples) == ({"gone": 1}, 6)
    assert world.run()[0].new is False
    world.page("/more", *range(6, 10))
    second, asked = world.run()
    assert (asked, second.manifest.rejected, second.manifest.samples) == ([6, 7, 8, 9], {}, 10)


def test_another_caption_asks_for_nothing_and_makes_no_version(world: Crawled) -> None:
    world.run()
    world.page("/more", *range(6, 10), head="<title>another one</title>")
    published, asked = world.run()
    assert (published.new, asked) == (False, [])


def test_what_is_kept_is_asked_whether_it_has_changed(world: Crawled) -> None:
    world.run()
    world.site.pages["/3.jpg"] = Reply(picture(100))
    second, asked = world.run(again=Again(kept=True))
    assert (second.new, len(asked), second.manifest.samples) == (True, 10, 10)


def test_a_picture_whose_page_opts_out_goes_without_a_request(world: Crawled) -> None:
    world.run()
    world.page("/more", *range(6, 10), head='<meta name="robots" content="noai">')
    second, asked = world.run()
    assert (asked, second.manifest.rejected) == ([], {"opted_out": 4})
    assert world.kept() == files(*range(6))
    assert world.run()[1] == []
    world.page("/more", *range(6, 10))
    assert len(world.run()[1]) == 4
    assert world.kept() == files(*range(10))


@pytest.mark.parametrize("word", ["keep", "drop"])
def test_what_a_site_shows_no_more_is_counted_as_vanished(world: Crawled, word: str) -> None:
    world.memory = {"vanished": word}
    world.run()
    world.page("/more", 6, 7)
    world.run()
    counted = count_remembered(world.store, "birds", world.now)
    assert counted is not None
    assert (counted.vanished, counted.vanished_first[:10]) == (2, world.now.date().isoformat())
    assert world.kept() == files(*range(8 if word == "drop" else 10))
    world.page("/more", *range(6, 10))
    assert world.run()[1] == []
    assert world.kept() == files(*range(10))


def test_a_page_that_is_gone_takes_its_pictures_with_it(world: Crawled) -> None:
    world.memory = {"vanished": "drop"}
    world.run()
    world.site.pages["/more"] = Reply(b"", 404)
    world.run()
    assert world.kept() == files(*range(6))


@pytest.mark.parametrize(
    "reply",
    [Reply(b"", 503), Reply(b"", 401), Reply(b"", 403), Reply(b"", 302, {"Location": "/more"})],
    ids=["503", "401", "403", "loop"],
)
def test_nothing_vanishes_behind_a_page_that_fails_for_the_moment_or_pages_that_are_left(
    world: Crawled, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory = {"vanished": "drop"}
    world.options = {"unreachable": "reject"}
    world.run()
    assert "counts as vanished" not in caplog.text
    world.site.pages["/more"] = reply
    world.run()
    assert ": 1 page could not be read" in caplog.text
    assert "no picture of the site counts as vanished" in caplog.text
    assert world.kept() == files(*range(10))
    counted = count_remembered(world.store, "birds", world.now)
    assert counted is not None
    assert counted.vanished == 0
    world.page("/more", *range(6, 10))
    world.options = {"max_pages": 1}
    world.run()
    assert world.kept() == files(*range(10))
    world.options = {"follow": 0}
    world.run()
    assert world.kept() == files(*range(6))


def test_nothing_vanishes_behind_a_page_that_robots_txt_forbids(world: Crawled) -> None:
    world.memory = {"vanished": "drop"}
    world.run()
    world.site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /more\n")
    world.run()
    assert world.kept() == files(*range(10))


def test_a_page_that_leads_to_another_host_takes_its_pictures_with_it(world: Crawled) -> None:
    world.memory = {"vanished": "drop"}
    world.run()
    with Site() as other:
        other.pages["/"] = Reply(b"<html></html>", headers={"Content-Type": "text/html"})
        elsewhere = other.url("/").replace("127.0.0.1", "localhost")
        world.site.pages["/more"] = Reply(b"", 302, {"Location": elsewhere})
        world.run()
        assert world.kept() == files(*range(6))


def test_what_a_release_remembers_that_read_whole_partitions_is_remembered_further(
    world: Crawled, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.site.pages["/3.jpg"] = Reply(b"", 404)
    with monkeypatch.context() as patched:
        patched.setattr(ListedSource, "is_listed", property(lambda source: False))
        first, _ = world.run()
    again, asked = world.run()
    assert (again.new, asked, first.manifest.rejected) == (False, [3], {"gone": 1})
    world.serve(3)
    world.page("/more", *range(6, 10), head='<meta name="robots" content="noai">')
    second, asked = world.run()
    assert (asked, second.manifest.rejected) == ([3], {"opted_out": 4})
    assert world.kept() == files(*range(6))


def test_a_site_is_crawled_once_in_a_run(world: Crawled) -> None:
    world.run()
    world.serve(10)
    world.page("/more", *range(6, 11))
    seen = len(world.site.pages_asked)
    world.run()
    assert sorted(world.site.pages_asked[seen:]) == ["/", "/10.jpg", "/more"]


def test_another_recipe_makes_its_pictures_of_the_originals_and_asks_for_pages_alone(world: Crawled) -> None:
    world.store_options = {"originals": True}
    world.run()
    world.steps = [{"name": "image", "mode": "center_crop", "size": 16}]
    second, asked = world.run(again=Again(older_recipe=True))
    rows = Version(world.store, second.manifest).records(["width"]).read_all().to_pylist()
    assert (asked, [row["width"] for row in rows]) == ([], [16] * 10)
