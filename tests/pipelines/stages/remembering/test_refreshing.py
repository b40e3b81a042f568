"""What is kept is asked for again, and a site that changes, heals or lies about it is obeyed or survived."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from stoker.pipelines.memory.known import Again
from stoker.pipelines.stages.publish import Published
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.verification.verify import verify
from stoker.storage.versions.version import Version
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Reply, Request, Site
from tests.system.old_store.inputs import picture

OLD = "Sun, 01 Feb 2026 00:00:00 GMT"
REFRESH = Again(kept=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def careful(body: bytes, etag: str) -> Callable[[Request], Reply]:
    """A page that answers conditional requests as it should."""

    def reply(request: Request) -> Reply:
        if request.headers.get("if-none-match") == etag:
            return Reply(b"", 304, {"ETag": etag})
        return Reply(body, headers={"ETag": etag})

    return reply


def hashes(world: World, published: Published) -> dict[str, tuple[str, str]]:
    """The split and the hash of the fetched bytes of each sample, by its URL."""
    rows = Version(world.store, published.manifest).records(["url", "split", "sha256"]).read_all().to_pylist()
    return {row["url"]: (row["split"], row["sha256"]) for row in rows}


def test_what_is_kept_is_asked_for_and_makes_no_version_where_nothing_changed(world: World) -> None:
    for number in range(6):
        world.site.pages[f"/{number}.jpg"] = careful(picture(number), f'"{number}"')
    world.serve(6)  # without validators
    world.site.pages["/7.jpg"] = Reply(b"no picture", headers={"ETag": '"7"'})
    world.names(*range(9))
    first, _ = world.run()
    assert (world.run()[1], world.run(days=0)[1]) == ([8], [])
    again, asked = world.run(again=REFRESH)
    assert (again.new, asked) == (False, list(range(9)))
    last = {request.path: request for request in world.site.log}
    assert [number for number in range(8) if "if-none-match" in last[f"/{number}.jpg"].headers] == [*range(6), 7]
    assert verify(world.store, first.manifest).problems == ()
    (found,) = find_lineages(world.store, first.manifest, world.url(0))
    assert [attempt.reason for attempt in found.attempts.made] == ["", "known"]


def conditions(world: World, number: int) -> list[str]:
    """The validators that each request for a picture named."""
    return [request.headers.get("if-none-match", "") for request in world.site.asked(f"/{number}.jpg")]


def test_other_bytes_take_the_place_of_a_sample_and_its_split(world: World) -> None:
    for number in range(12):
        world.site.pages[f"/{number}.jpg"] = careful(picture(number), '"1"')
    world.names(*range(12))
    first, _ = world.run()
    for number in range(4):
        world.site.pages[f"/{number}.jpg"] = careful(picture(100 + number), '"2"')
    second, asked = world.run(again=REFRESH)
    assert (second.new, asked) == (True, list(range(12)))
    before, after = hashes(world, first), hashes(world, second)
    assert {url for url in before if before[url][1] != after[url][1]} == set(map(world.url, range(4)))
    assert {url: split for url, (split, _) in before.items()} == {url: split for url, (split, _) in after.items()}
    assert (second.manifest.read, second.manifest.samples, second.manifest.rejected) == (12, 12, {})
    assert verify(world.store, second.manifest).problems == ()
    assert world.run(again=REFRESH)[0].new is False
    assert conditions(world, 0) == ["", '"1"', '"2"']


def test_a_failure_of_the_moment_leaves_the_sample_and_is_asked_again_by_the_back_off(world: World) -> None:
    for number in range(4):
        world.site.pages[f"/{number}.jpg"] = careful(picture(number), '"1"')
    world.names(*range(4))
    first, _ = world.run()
    page = world.site.pages.pop("/0.jpg")
    assert world.run(again=REFRESH)[0].new is False
    asked = [world.run(again=REFRESH)[1].count(0) for _ in range(6)]
    assert asked == [1, 1, 0, 1, 0, 0], "every night it would be asked, were it not for the back-off"
    world.site.pages["/0.jpg"] = page
    assert world.run(days=30)[0].manifest.reference == first.manifest.reference
    assert conditions(world, 0)[-1] == '"1"'


def test_bytes_that_broke_are_rejected_and_come_back(world: World) -> None:
    world.serve(*range(4))
    world.names(*range(4))
    first, _ = world.run()
    world.site.pages["/1.jpg"] = Reply(b"no picture", headers={"ETag": '"x"'})
    second, _ = world.run(again=REFRESH)
    assert (second.manifest.samples, second.manifest.rejected) == (3, {"not_an_image": 1})
    world.serve(1)
    third, _ = world.run(again=REFRESH)
    assert hashes(world, third) == hashes(world, first)


def test_the_same_bytes_with_a_new_etag_are_remembered_by_that(world: World) -> None:
    world.site.pages["/0.jpg"] = careful(picture(0), '"1"')
    world.names(0)
    world.run()
    world.site.pages["/0.jpg"] = careful(picture(0), '"2"')
    assert [world.run(again=REFRESH)[0].new for _ in range(2)] == [False, False]
    assert conditions(world, 0) == ["", '"1"', '"2"']


def test_a_server_that_says_not_modified_to_all_loses_and_mixes_nothing(world: World) -> None:
    world.serve(*range(3))
    for number in range(3, 6):
        world.site.pages[f"/{number}.jpg"] = careful(picture(number), f'"{number}"')
    world.names(*range(6))
    first, _ = world.run()
    for number in range(6):
        world.site.pages[f"/{number}.jpg"] = Reply(b"", 304)
    world.names(*range(7))
    world.site.pages["/6.jpg"] = Reply(b"", 304)
    second, _ = world.run(again=REFRESH)
    assert hashes(world, second) == hashes(world, first)
    (found,) = find_lineages(world.store, second.manifest, world.url(6))
    assert [attempt.reason for attempt in found.attempts.made] == ["unreachable"]


def test_only_what_was_seen_last_so_long_ago_is_asked_for(world: World) -> None:
    world.serve(*range(6))
    world.names(0, 1, 2)
    world.run()
    world.names(*range(6))
    world.run(days=5)
    week = Again(kept=True, older_than=timedelta(days=7))
    assert [world.run(again=week, days=days)[1] for days in (1, 2, 1, 5)] == [[], [0, 1, 2], [], [3, 4, 5]]


def test_of_what_the_list_says_other_things_the_body_is_fetched(world: World) -> None:
    world.site.pages["/0.jpg"] = careful(picture(0), '"1"')
    world.options |= {"lists": "list.csv"}
    for caption in ("a bird", "a gull"):
        (world.folder / "list.csv").write_text(f"url,caption\n{world.url(0)},{caption}\n")
        published, _ = world.run(again=REFRESH)
    assert conditions(world, 0) == ["", ""]
    rows = Version(world.store, published.manifest).records(["caption"]).read_all().to_pylist()
    assert rows == [{"caption": "a gull"}]


def test_a_recipe_that_changed_gets_the_bytes(world: World) -> None:
    world.site.pages["/0.jpg"] = careful(picture(0), '"1"')
    world.names(0)
    world.run()
    world.options |= {"group": "host"}
    world.run(again=REFRESH)
    assert conditions(world, 0) == ["", ""]


def test_a_new_url_of_a_dead_host_is_rejected_for_now_and_stops_nothing(world: World) -> None:
    world.serve(*range(3))
    with Site() as dead:
        pass
    world.options |= {"partition_urls": 1}
    world.names(0, 1)
    world.run()
    world.names(0, 1, 2)
    world.list.append(dead.url("/9.jpg"))
    second, asked = world.run()
    assert (asked, second.manifest.samples) == ([2], 3)
    (found,) = find_lineages(world.store, second.manifest, dead.url("/9.jpg"))
    assert [attempt.reason for attempt in found.attempts.made] == ["unreachable"]
    world.run(days=0)
    (found,) = find_lineages(world.store, second.manifest, dead.url("/9.jpg"))
    assert found.attempts.made[-1].tries == 2


def test_what_robots_txt_refused_is_asked_for_at_once_when_that_changed_and_else_after_a_week(world: World) -> None:
    world.site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /1.jpg\n")
    world.serve(*range(3))
    world.names(*range(3))
    first, _ = world.run()
    assert first.manifest.rejected == {"robots": 1}

    def nights(days: int) -> list[list[int]]:
        asked = []
        for _ in range(days):
            FAST.close()
            before = len(world.site.asked("/robots.txt"))
            asked.append(world.run()[1])
            assert len(world.site.asked("/robots.txt")) == before + 1, "a request to each host that refused"
        return asked

    assert nights(3) == [[], [], []]
    world.site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /2.jpg\n")
    assert nights(1) == [[1]]
    FAST.close()
    requests = len(world.site.log)
    assert world.run()[1] == []
    assert len(world.site.log) == requests, "nothing is refused any more"


@pytest.mark.parametrize(("status", "days"), [(403, [7, 21]), (410, [7, 21]), (404, [1, 2, 4, 8, 16])])
def test_what_a_server_refuses_is_asked_for_after_a_week(status: int, days: list[int], world: World) -> None:
    world.serve(0)
    world.site.pages["/1.jpg"] = Reply(b"no", status)
    world.names(0, 1)
    world.run()
    assert [day for day in range(1, 28) if world.run()[1]] == days


def test_a_budget_is_spent_for_what_was_longest_not_seen_and_the_rest_waits(world: World) -> None:
    world.site.pages |= {f"/{n}.jpg": Reply(picture(n)) for n in range(12)}
    world.options |= {"partition_urls": 100}
    world.names(*range(8))
    world.run(days=3)
    world.names(*range(13))
    world.run()
    small = Again(kept=True, max_bytes=3 * len(picture(0)))
    one_at_a_time = replace(FAST, threads=1)
    seen = [world.run(again=small, web=one_at_a_time, days=40)[1] for _ in range(4)]
    assert all(12 in asked for asked in seen), "what is due anyway costs no budget"
    counts = [sum(number < 12 for number in asked) for asked in seen]
    assert max(counts) <= 5
    assert {number for asked in seen[:3] for number in asked} >= set(range(8)), "none starves"


def test_after_a_clock_was_set_back_the_newest_attempt_counts(world: World) -> None:
    world.serve(*range(5))
    world.names(*range(5))
    world.run(days=400)
    world.site.pages["/0.jpg"] = Reply(picture(70))
    world.site.pages["/4.jpg"] = Reply(b"no picture")
    all_of_them = Again(kept=True, older_than=timedelta(days=-400))
    second, _ = world.run(days=-300, again=all_of_them)
    hashes = Version(world.store, second.manifest).records(["url", "sha256"]).read_all().to_pylist()
    assert len(hashes) == 4
    assert {"url": world.url(0), "sha256": sha256(picture(70)).hexdigest()} in hashes
    third, asked = world.run()
    assert (third.new, asked) == (False, [])
