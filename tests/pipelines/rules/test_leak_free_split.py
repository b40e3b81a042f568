"""What is alike stays on one side, and nothing moves when the corpus grows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.images import hamming
from stoker.pipelines.rules import near_duplicate_texts
from stoker.pipelines.rules.leak_free_split import LeakFreeSplit
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.text.measures import measures_of_text

SPLITS = {"train": 50.0, "validation": 50.0}


def side(group: str) -> str:
    return split_of(group, SPLITS)


def table(samples: Sequence[tuple[int, int]]) -> pa.Table:
    """Samples of (hash's family, group): hashes of families n and n + 1 differ in 20 bits, of others in more."""
    bits = np.random.Generator(np.random.Philox(7)).permutation(256)
    hashes = []
    for family, _ in samples:
        row = np.zeros(256, np.uint8)
        row[bits[: family * 20]] = 1
        hashes.append(np.packbits(row).tobytes().hex())
    groups = [f"group-{group}" for _, group in samples]
    return pa.table(
        {
            "key": [f"key-{place}" for place in range(len(samples))],
            "group": groups,
            "split": [side(group) for group in groups],
            "content_sha256": [f"{place}" for place in range(len(samples))],
            "image_hash": hashes,
            "image_hash_quality": [100] * len(samples),
        }
    )


def settle(records: pa.Table) -> dict[str, str]:
    found = dict(zip(records["key"].to_pylist(), records["split"].to_pylist(), strict=True))
    for decision in LeakFreeSplit().decide(records, side):
        if decision.action == "drop":
            del found[decision.key]
        else:
            found[decision.key] = decision.value
    return found


SAMPLES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(samples=SAMPLES)
def test_neither_what_is_alike_nor_a_group_is_ever_on_two_sides(samples: list[tuple[int, int]]) -> None:
    found = settle(table(samples))
    kept = [(family, group, found[f"key-{n}"]) for n, (family, group) in enumerate(samples) if f"key-{n}" in found]
    for family, group, split in kept:
        for other_family, other_group, other_split in kept:
            if abs(family - other_family) <= 1 or group == other_group:
                assert split == other_split


@settings(max_examples=80, deadline=None)
@given(samples=SAMPLES, cut=st.integers(0, 25))
def test_no_sample_moves_when_the_corpus_grows(samples: list[tuple[int, int]], cut: int) -> None:
    assert settle(table(samples[:cut])).items() <= settle(table(samples)).items()


def test_a_conflict_names_the_sample_it_is_with() -> None:
    names = [f"group-{number}" for number in range(20)]
    here = next(n for n, name in enumerate(names) if side(name) == "train")
    there = next(n for n, name in enumerate(names) if side(name) == "validation")
    records = table([(0, here), (6, there), (0, there)])
    (decision,) = LeakFreeSplit().decide(records, side)
    assert (decision.key, decision.action, decision.value, decision.witness) == (
        "key-2",
        "drop",
        "split_conflict",
        "key-0",
    )


def test_texts_of_one_wording_are_on_one_side() -> None:
    words = " ".join(f"word{number}" for number in range(200))
    texts = [f"{words} ending {number}" for number in range(8)]
    groups = [f"page-{number}" for number in range(8)]
    records = pa.table(
        {
            "key": groups,
            "group": groups,
            "split": [side(group) for group in groups],
            "content_sha256": texts,
            "minhash": [measures_of_text(text)["minhash"] for text in texts],
        }
    )
    assert len({side(group) for group in groups}) == 2
    found = settle(records)
    assert len(found) == 8
    assert len(set(found.values())) == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), distance=st.sampled_from([0, 7, 31, 63]))
def test_pairs_are_those_of_brute_force(seed: int, distance: int) -> None:
    random = np.random.Generator(np.random.Philox(seed))
    base = random.integers(0, 256, (12, 32), dtype=np.uint8)
    near = base[random.integers(0, 12, 30)].copy()
    for row in near:
        for bit in random.integers(0, 256, random.integers(0, 70)):
            row[bit // 8] ^= 1 << (bit % 8)
    words = np.unique(np.concatenate([base, near]).view("<u8").astype(np.uint64), axis=0)
    apart = np.bitwise_count(words[:, None] ^ words[None]).sum(axis=2)
    expected = {(a, b) for a, b in np.argwhere(np.triu(apart <= distance, 1)).tolist()} if distance else set()
    assert set(hamming.near_pairs(words, distance)) == expected


@pytest.mark.parametrize("similarity", [0.5, 0.8])
def test_pairs_of_texts_are_as_similar_as_asked_for(similarity: float) -> None:
    random = np.random.Generator(np.random.Philox(3))
    signatures = random.integers(0, 2**32, (40, 128), dtype=np.uint32)
    signatures[1::2] = np.where(random.random((20, 128)) < 0.85, signatures[::2], signatures[1::2])
    found = set(near_duplicate_texts.near_pairs(signatures, similarity))
    equal = (signatures[:, None] == signatures[None]).mean(axis=2)
    expected = {(a, b) for a, b in np.argwhere(np.triu(equal >= similarity, 1)).tolist()}
    assert found <= expected
    assert len(found) >= 0.9 * len(expected)
