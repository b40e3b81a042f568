"""Near-duplicate images: exactly the leader rule, whatever the numbers."""

import hashlib
import random
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images import hamming
from stoker.pipelines.images.codec import measures_of_image
from stoker.pipelines.images.hamming import MAX_DISTANCE, NearDuplicate, near_duplicates, parse_hashes
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.near_duplicate_images import NearDuplicateImages
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.text.measures import SLOTS
from stoker.testing import decide
from tests.data import SHARED, needs_shared


def flipped(value: int, bits: int, generator: random.Random) -> int:
    for bit in generator.sample(range(256), bits):
        value ^= 1 << bit
    return value


def family(seed: int, many: int, *, roots: int = 8, spread: int = 40) -> list[str]:
    """Hashes around a few, at random distances up to ``spread``, with copies."""
    generator = random.Random(seed)
    centres = [generator.getrandbits(256) for _ in range(roots)]
    return [f"{flipped(generator.choice(centres), generator.randrange(spread), generator):064x}" for _ in range(many)]


def plainly(hashes: list[str], distance: int) -> list[NearDuplicate]:
    """The rule as it reads, in quadratic time."""
    values = [int(one, 16) for one in hashes]
    leaders: list[int] = []
    found = []
    for place, value in enumerate(values):
        leader = next((one for one in leaders if (values[one] ^ value).bit_count() <= distance), None)
        if leader is None:
            leaders.append(place)
        else:
            found.append(NearDuplicate(place, leader, (values[leader] ^ value).bit_count()))
    return found


def table(hashes: list[str | None], qualities: list[int | None] | None = None) -> pa.Table:
    keys = [f"k{place}" for place in range(len(hashes))]
    quality = qualities or [100] * len(hashes)
    return pa.table(
        {
            "key": keys,
            "image_hash": pa.array(hashes, pa.string()),
            "image_hash_quality": pa.array(quality, pa.int64()),
        }
    )


def decided(rule: NearDuplicateImages, records: pa.Table) -> list[Decision]:
    return decide(rule, records)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 150), st.integers(0, MAX_DISTANCE), st.sampled_from([2, 30, 70]))
def test_the_followers_are_those_of_the_plain_rule(seed: int, many: int, distance: int, spread: int) -> None:
    hashes = family(seed, many, spread=spread)
    assert list(near_duplicates(parse_hashes(hashes), distance)) == plainly(hashes, distance)


@pytest.mark.parametrize("block", [1, 2, 7, 64])
@pytest.mark.parametrize("at_once", [1, 5000])
def test_the_answer_does_not_depend_on_how_the_work_is_cut(
    block: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = family(3, 400)
    expected = plainly(hashes, 31)
    monkeypatch.setattr(hamming, "_BLOCK", block)
    monkeypatch.setattr(hamming, "_CANDIDATES_PER_BATCH", at_once)
    assert list(near_duplicates(parse_hashes(hashes), 31)) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 63))
def test_nothing_is_dropped_without_a_kept_witness_that_near(seed: int, distance: int) -> None:
    hashes: list[str | None] = [*family(seed, 200)]
    decisions = decided(NearDuplicateImages(distance=distance), table(hashes))
    value = {f"k{place}": int(one or "", 16) for place, one in enumerate(hashes)}
    dropped = {decision.key for decision in decisions}
    assert len(dropped) == len(decisions)
    for decision in decisions:
        apart = (value[decision.key] ^ value[decision.witness]).bit_count()
        assert (decision.action, decision.value) == ("drop", "near_duplicate")
        assert apart <= distance
        assert decision.similarity == 1 - apart / 256
        assert decision.witness not in dropped
        assert int(decision.witness[1:]) < int(decision.key[1:])


def test_a_chain_of_small_steps_does_not_collapse() -> None:
    steps = [sum(1 << bit for bit in range(20 * place)) for place in range(6)]
    found = decided(NearDuplicateImages(distance=31), table([f"{value:064x}" for value in steps]))
    assert [(one.key, one.witness) for one in found] == [("k1", "k0"), ("k3", "k2"), ("k5", "k4")]


def test_poor_and_missing_hashes_neither_drop_nor_are_dropped() -> None:
    same = "ab" * 32
    records = table([same, same, None, same, same], [49, 100, None, 0, 50])
    assert [(one.key, one.witness) for one in decided(NearDuplicateImages(), records)] == [("k4", "k1")]
    assert len(decided(NearDuplicateImages(min_quality=0), records)) == 3


def test_the_older_is_kept_when_the_corpus_grows() -> None:
    hashes: list[str | None] = [*family(5, 300)]
    rule = NearDuplicateImages()
    before = decided(rule, table(hashes[:200]))
    assert decided(rule, table(hashes))[: len(before)] == before


def test_records_that_the_rule_cannot_judge_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"no column 'image_hash'.*leave the rule out"):
        decided(NearDuplicateImages(), pa.table({"key": ["a"]}))
    with pytest.raises(RecipeError, match="not Stoker's"):
        decided(NearDuplicateImages(), table(["abcd"]))
    assert decided(NearDuplicateImages(), pa.table({"key": pa.array([], pa.string())})) == []


def test_many_copies_of_one_picture_are_a_star_and_not_all_their_pairs() -> None:
    hashes = family(7, 50_000, roots=1, spread=12)
    started = time.process_time()
    found = list(near_duplicates(parse_hashes(hashes), 31))
    assert time.process_time() - started < 20
    assert len(found) == 49_999
    assert {duplicate.representative for duplicate in found} == {0}


@pytest.mark.slow
def test_a_hundred_thousand_pictures_take_seconds() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, (100_000, 4), dtype=np.uint64)
    copies = generator.choice(90_000, 5_000, replace=False)
    for number, place in enumerate(copies):
        hashes[95_000 + number] = hashes[place]
        for bit in generator.choice(256, int(generator.integers(0, 32)), replace=False):
            hashes[95_000 + number, bit // 64] ^= np.uint64(1 << (int(bit) % 64))
    started = time.process_time()
    found = {duplicate.index: duplicate.representative for duplicate in near_duplicates(hashes, 31)}
    assert time.process_time() - started < 60
    assert found == {95_000 + number: int(place) for number, place in enumerate(copies)}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, silenced once a process: pytest undoes that
@needs_shared
def test_copies_among_real_photographs_are_found_and_nothing_else() -> None:
    assert SHARED is not None
    found = {path.name: measures_of_image(path.read_bytes()) for path in sorted((SHARED / "photos").iterdir())}
    names = [name for name, one in found.items() if isinstance(one, dict)]
    measures = [one for one in found.values() if isinstance(one, dict)]
    records = table([one["image_hash"] for one in measures], [one["image_hash_quality"] for one in measures])
    decisions = decided(NearDuplicateImages(), records)
    dropped = {names[int(one.key[1:])]: names[int(one.witness[1:])] for one in decisions}
    assert dropped["imageio_chelsea.jpg"] == "imageio_chelsea.bmp"
    assert dropped["pil_hopper_orientation_6.webp"] == "pil_hopper-XYZ.png"
    assert dropped["exifrot_Portrait_6.jpg"] == "exifrot_Portrait_0.jpg"
    photographs = {copy: original for copy, original in dropped.items() if copy.startswith(("lomiri", "mdn"))}
    fairies = {f"mdn_elva-fairy-{size}.jpg": "mdn_elva-fairy-320w.jpg" for size in ("480w", "640w", "800w", "original")}
    assert photographs == fairies | {
        "mdn_dinosaur_small.jpg": "mdn_dinosaur.jpg",
        "mdn_favorite-1_th.jpg": "mdn_favorite-1.jpg",
        "mdn_firefox-addons400.jpg": "mdn_firefox-addons.jpg",
        "mdn_red-panda.jpg": "mdn_red-panda-landscape.jpg",
    }


def test_near_duplicates_of_another_label_are_told_as_a_conflict() -> None:
    hashes = ["0" * 64, "0" * 63 + "1", "0" * 63 + "3", "0" * 63 + "7"]
    table = pa.table(
        {
            "key": ["a", "b", "c", "d"],
            "label": ["cat", "dog", None, "cat"],
            "image_hash": hashes,
            "image_hash_quality": [100] * 4,
        }
    )
    found = {one.key: (one.value, one.witness) for one in decide(NearDuplicateImages(), table)}
    assert found == {"b": ("label_conflict", "a"), "c": ("near_duplicate", "a"), "d": ("near_duplicate", "a")}


HASH = hashlib.sha256(b"a picture").hexdigest()
SIGNATURE = np.arange(SLOTS, dtype="<u4").tobytes()
COPIES: dict[str, list[object]] = {
    "key": ["small", "large", "free"],
    "width": [64, 400, 32],
    "height": [64, 300, 32],
    "characters": [64, 400, 32],
    "licence": ["CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC0-1.0"],
    "image_hash": [HASH] * 3,
    "image_hash_quality": [100] * 3,
    "minhash": [SIGNATURE] * 3,
    "content_sha256": ["same"] * 3,
}
KEPT: list[tuple[Rule, str]] = [
    (NearDuplicateImages(), "small"),
    (NearDuplicateImages(keep="largest"), "large"),
    (NearDuplicateImages(keep="best_licence"), "free"),
    (NearDuplicateTexts(), "small"),
    (NearDuplicateTexts(keep="longest"), "large"),
    (NearDuplicateTexts(keep="best_licence"), "free"),
    (ExactDuplicates(), "small"),
    (ExactDuplicates(keep="best_licence"), "free"),
]


@pytest.mark.parametrize(("rule", "kept"), KEPT)
def test_one_is_kept_as_the_option_says(rule: Rule, kept: str) -> None:
    dropped = decide(rule, pa.table(COPIES))
    assert {one.key for one in dropped} == {"small", "large", "free"} - {kept}
    assert {one.witness for one in dropped} == {kept}


@pytest.mark.parametrize("rule", [rule for rule, _ in KEPT])
@pytest.mark.parametrize("elders_stay", [False, True])
def test_an_elder_is_kept_whatever_the_option_says(rule: Rule, elders_stay: bool) -> None:
    elder = pa.table(COPIES | {"is_elder": [True, False, False]})
    assert {one.key for one in decide(rule, elder, elders_stay=elders_stay)} == {"large", "free"}


def test_the_order_of_the_source_does_not_decide_between_equal_ones() -> None:
    equal = pa.table(COPIES | {"width": [64] * 3, "height": [64] * 3})
    rule = NearDuplicateImages(keep="largest")
    first, second = ({one.key for one in decide(rule, rows)} for rows in (equal, equal.take([2, 1, 0])))
    assert first == second
