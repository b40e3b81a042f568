"""The loader: the stream's batches and state whatever makes them ahead; errors at their place; nothing left behind."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stoker.storage import open_store
from stoker.storage.sample import Sample
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader import Batches, Loader
from stoker.training.samples import Samples
from stoker.training.stream import ShardStream
from tests.training import corpora
from tests.training.conftest import Small

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def keys(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    return samples.keys


def all_but_k(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    for place, key in enumerate(samples.keys):
        if key == "k":
            raise CorruptSample(place, "k is broken")
    return samples.keys


def slow_tail(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    time.sleep(0.02 * (samples.keys[0] < "m"))
    return samples.keys


def killed(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    if "k" in samples.keys:
        os.kill(os.getpid(), signal.SIGKILL)
    return samples.keys


@pytest.fixture
def disk(tmp_path: Path) -> Small:
    """The letters in a folder, which other processes can read."""
    store = open_store(str(tmp_path / "store"))
    samples = [Sample(letter, {"txt": b"x"}) for letter in LETTERS]
    manifest = corpora.version(store, tmp_path, {"train": samples}, per_shard=7)
    return Small(store, manifest, tmp_path)  # type: ignore[arg-type]  # a store is a store


def stream(small: Small, **options: Any) -> ShardStream:
    return ShardStream(small.store, small.manifest, cache=small.cache, **({"make": keys, "batch_size": 4} | options))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(3, 30),
    workers=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ahead=st.integers(1, 3),
    stop=st.integers(0, 20),
    last=st.sampled_from(["short", "drop", "pad"]),
)
def test_any_threads_ranks_and_restarts_give_the_batches_of_one_undisturbed_process(
    letters: Small, batch_size: int, workers: tuple[int, int], worlds: tuple[int, int], ahead: int, stop: int, last: str
) -> None:
    options = {"batch_size": batch_size, "seed": 3, "last": last}
    whole = stream(letters, **options)
    expected = [batch for _ in range(2) for batch in whole]
    stop = min(stop, len(expected))
    state: dict[str, Any] | None = None
    found: list[list[str]] = []
    for world, threads, count in ((worlds[0], workers[0], stop), (worlds[1], workers[1], len(expected) - stop)):
        parts: list[list[str]] = [[] for _ in range(count)]
        ranks = [stream(letters, **options, rank=rank, world_size=world) for rank in range(world)]
        for one in ranks:
            loader = Loader(one, workers=threads, ahead=ahead)
            if state is not None:
                loader.load_state_dict(state)
            endless = itertools.chain.from_iterable(itertools.repeat(loader)) if expected else iter(())
            for number, batch in enumerate(itertools.islice(endless, count) if count else ()):
                parts[number] += batch
            loader.close()
        state = ranks[-1].state_dict()
        found += parts
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing_and_the_state_counts_what_the_loop_had(disk: Small, workers: int) -> None:
    expected = list(stream(disk))
    loader = Loader(stream(disk), workers=workers, kind="processes")
    found = list(itertools.islice(loader, 3))
    rest = stream(disk)
    rest.load_state_dict(loader.state_dict())
    assert found + list(rest) == expected
    assert loader.stream.counters.sums()["samples"] >= 12  # counted in the workers, and brought home


def test_the_loop_may_stop_anywhere_and_go_on_or_go_back(letters: Small) -> None:
    expected = list(stream(letters))
    loader = Loader(stream(letters), workers=2)
    before = loader.state_dict()
    assert list(itertools.islice(loader, 2)) + list(itertools.islice(loader, 1)) == expected[:3]
    loader.load_state_dict(before)
    assert list(loader) == expected
    assert loader.state_dict()["epoch"] == 1
    loader.close()


def test_an_error_comes_at_its_batchs_turn(letters: Small) -> None:
    expected = list(stream(letters))
    place = next(number for number, batch in enumerate(expected) if "k" in batch)
    loader = Loader(stream(letters, make=all_but_k), workers=3, ahead=3)
    found: list[list[str]] = []
    with pytest.raises(CorruptSample, match="k is broken"):
        found.extend(loader)  # what came before the error stays in it
    assert found == expected[:place]
    loader.close()


@pytest.mark.slow
def test_an_error_in_a_worker_process_comes_home_whole_and_skips_are_counted(disk: Small) -> None:
    with pytest.raises(CorruptSample, match="k is broken"):
        list(Loader(stream(disk, make=all_but_k), workers=1, kind="processes"))
    skipping = stream(disk, make=all_but_k, on_corrupt="skip")
    found = list(Loader(skipping, workers=2, kind="processes"))
    assert sorted(itertools.chain(*found)) == sorted(set(LETTERS) - {"k"})
    assert skipping.counters.sums()["skipped"] == 1


@pytest.mark.slow
def test_a_killed_worker_is_told_in_one_line_and_the_state_goes_on(disk: Small) -> None:
    expected = list(stream(disk))
    loader = Loader(stream(disk, make=killed), workers=1, kind="processes")
    found: list[list[str]] = []
    with pytest.raises(
        TrainingError, match=r"(killed by signal|exited unexpectedly).*; the state counts what the loop had"
    ):
        found.extend(loader)  # what came before the error stays in it
    rest = stream(disk)
    rest.load_state_dict(loader.state_dict())
    assert found + list(rest) == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_bare_dataloader_gives_the_same_batches(disk: Small, workers: int) -> None:
    expected = list(stream(disk))
    counted = stream(disk)
    for number in range(2):
        counted.step()
        assert counted.delivered == 4 * (number + 1)
    context = "forkserver" if workers else None
    rest = DataLoader(Batches(counted), batch_size=None, num_workers=workers, multiprocessing_context=context)
    assert list(rest) == expected[2:]


def test_leaving_the_loop_leaves_no_thread_when_closed(letters: Small) -> None:
    before = threading.active_count()
    loader = Loader(stream(letters, make=slow_tail), workers=3)
    for _ in loader:
        break
    loader.close()
    loader.stream.close()
    assert threading.active_count() <= before


def test_waiting_and_working_are_told_apart(letters: Small) -> None:
    one = stream(letters)
    for _ in Loader(one, workers=1):
        time.sleep(0.005)
    sums = one.counters.sums()
    assert sums["batches"] == 7
    assert sums["loop_s"] > 6 * 0.005
    assert sums["depth"] > 0
    assert 0 <= sums["waited_s"] < sums["loop_s"]


def test_a_tensor_batch_is_freed_before_the_next_is_asked_for(letters: Small) -> None:
    alive: list[int] = []
    tensors: list[Any] = []

    def make(samples: Samples, draws: Sequence[bytes]) -> torch.Tensor:
        import weakref

        made = torch.zeros(3)
        tensors.append(weakref.ref(made))
        return made

    for batch in Loader(stream(letters, make=make)):
        alive.append(sum(one() is not None for one in tensors))
        del batch
    assert max(alive) == 1


@pytest.mark.parametrize("options", [{"workers": -1}, {"ahead": 0}, {"kind": "thread"}])
def test_wrong_options_are_told(letters: Small, options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected workers 0 or more"):
        Loader(stream(letters), **options)
