"""The loader: the stream's batches and state whatever makes them ahead; errors at their place; nothing left behind."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stoker.storage import open_store
from stoker.storage.shards.sample import Sample
from stoker.storage.versions.manifest import publish
from stoker.testing import sample_corpus
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader.loader import Batches, Loader
from stoker.training.reading.samples import Samples
from stoker.training.stream.mixing import MixedStream
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream
from tests.conftest import HANGS_S
from tests.training import corpora
from tests.training.conftest import Small

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = set("aeiou")


def keys(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    return samples.keys


def all_but_k(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    for place, key in enumerate(samples.keys):
        if key == "k":
            raise CorruptSample(place, "k is broken")
    return samples.keys


def no_vowels(samples: Samples, draws: Sequence[bytes]) -> list[str]:
    for place, key in enumerate(samples.keys):
        if key in VOWELS:
            raise CorruptSample(place, f"{key} is broken")
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
    defaults: dict[str, Any] = {"make": keys, "batch_size": 4}
    return ShardStream(small.store, small.manifest, cache=small.cache, **(defaults | options))


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
        for rank_stream in ranks:
            loader = Loader(rank_stream, workers=threads, ahead=ahead)
            if state is not None:
                loader.load_state_dict(state)
            endless: Iterator[list[str]] = (
                itertools.chain.from_iterable(itertools.repeat(loader)) if expected else iter(())
            )
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


def png_of(sample: Sample) -> bytes:
    return sample.fields["png"]


@pytest.mark.slow
def test_an_error_in_a_worker_process_comes_home_whole_and_skips_are_counted(disk: Small) -> None:
    with pytest.raises(CorruptSample, match="k is broken"):
        list(Loader(stream(disk, make=all_but_k), workers=1, kind="processes"))
    with pytest.raises(
        TrainingError, match=r"sample \w: decode wants 'png', which it lacks; its fields: txt"
    ) as caught:
        list(Loader(stream(disk, make=None, decode=png_of), workers=1, kind="processes"))
    assert "in png_of" in caught.value.__notes__[0]  # the line of the user's code
    skipping = stream(disk, make=all_but_k, on_corrupt="skip")
    found = list(Loader(skipping, workers=2, kind="processes"))
    assert sorted(itertools.chain(*found)) == sorted(set(LETTERS) - {"k"})
    assert skipping.counters.sums()["skipped"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_all_worker_processes_share_one_budget_of_skips(disk: Small, workers: int) -> None:
    loader = Loader(stream(disk, make=no_vowels, on_corrupt="skip", skip_budget=3), workers=workers, kind="processes")
    with pytest.raises(TrainingError, match=r"4 samples skipped, more than the budget of 3"):
        list(loader)
    enough = stream(disk, make=no_vowels, on_corrupt="skip", skip_budget=5)
    assert sorted(itertools.chain(*Loader(enough, workers=workers, kind="processes"))) == sorted(set(LETTERS) - VOWELS)
    assert enough.counters.sums()["skipped"] == 5
    assert enough.counters.sums()["samples"] == 26


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
@pytest.mark.parametrize(("workers", "context"), [(0, None), (1, "fork"), (2, "fork"), (2, "forkserver")])
def test_a_bare_dataloader_gives_the_same_batches(disk: Small, workers: int, context: str | None) -> None:
    expected = list(stream(disk))
    counted = stream(disk)
    for number, batch in enumerate(itertools.islice(counted, 2)):  # its threads are there when the workers are forked
        assert batch == expected[number]
    rest = DataLoader(Batches(counted), batch_size=None, num_workers=workers, multiprocessing_context=context)
    for number, batch in enumerate(rest, 2):
        counted.advance()
        assert batch == expected[number]
        assert counted.delivered == min(26, 4 * (number + 1))
    counted.next_epoch()
    following = DataLoader(Batches(counted), batch_size=None)
    assert list(following) == [counted.batch(1, start) for start in range(0, 26, 4)] != expected


def test_a_forked_worker_reads_the_version_that_its_stream_was_opened_with(disk: Small) -> None:
    named = ShardStream(disk.store, "small", batch_size=4, make=keys, cache=disk.cache)
    expected = list(stream(disk, seed=0))
    publish(disk.store, replace(disk.manifest, version=2, shards=disk.manifest.shards[:1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        found = list(DataLoader(Batches(named), batch_size=None, num_workers=1, multiprocessing_context="fork"))
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_a_bare_dataloader_gives_the_batches_of_a_mixed_stream(disk: Small, context: str) -> None:
    def mixed() -> MixedStream:
        return MixedStream({"one": stream(disk), "other": stream(disk, seed=1)}, batch_size=5, make=keys)

    expected, begun = list(itertools.islice(mixed(), 12)), mixed()
    assert next(iter(begun)) == expected[0]  # its threads are there when the workers are forked
    begun.delivered = 0
    found = DataLoader(Batches(begun), batch_size=None, num_workers=2, multiprocessing_context=context)
    assert list(itertools.islice(found, 12)) == expected[:12]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_left_at_its_last_batch_or_resumed_there_is_followed_by_the_next_epoch(
    letters: Small, workers: int
) -> None:
    whole = stream(letters)
    expected = [list(whole), list(whole)]
    loader = Loader(stream(letters), workers=workers)
    assert len(loader) == 7
    assert list(itertools.islice(loader, 7)) == expected[0]
    other = Loader(stream(letters), workers=workers)
    other.load_state_dict(loader.state_dict())
    for resumed in (loader, other):
        assert list(resumed) == expected[1]
        assert resumed.state_dict()["epoch"] == 2
        assert len(resumed) == 7


@pytest.mark.parametrize(("last", "size"), [("drop", 30), ("drop", 26), ("short", 30)])
def test_an_epoch_of_one_batch_or_none_ends(letters: Small, last: str, size: int) -> None:
    loader = Loader(stream(letters, last=last, batch_size=size), workers=2)
    for epoch in range(3):
        assert loader.state_dict()["epoch"] == epoch
        assert len(list(loader)) == len(loader) == (last == "short" or size == 26)
    loader.close()


def test_an_interrupt_while_the_loop_waits_loses_nothing(letters: Small) -> None:
    expected = list(stream(letters))
    held = threading.Event()

    def make(samples: Samples, draws: Sequence[bytes]) -> list[str]:
        if samples.keys == expected[2] and not held.is_set():
            while len(found) < 2:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)
            held.wait(HANGS_S)
        return samples.keys

    loader = Loader(stream(letters, make=make), workers=1)
    found: list[list[str]] = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # the loop is what is interrupted
        for batch in loader:
            found.append(batch)  # noqa: PERF402  # what came before the interrupt is looked at
    held.set()
    assert found == expected[:2]
    assert found + list(loader) == expected
    loader.close()


def test_a_loop_that_is_left_ends_its_threads_and_begins_nothing_more(letters: Small) -> None:
    made: list[list[str]] = []
    left = threading.Event()
    first = stream(letters).batch(0, 0)

    def make(samples: Samples, draws: Sequence[bytes]) -> list[str]:
        made.append(samples.keys)
        if samples.keys != first:  # which the loop waits for, whatever the order in which the threads begin
            left.wait(HANGS_S)
        return samples.keys

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("stoker-loader")]

    loader = Loader(stream(letters, make=make), workers=2, ahead=3)
    for _ in loader:
        assert len(threads()) == 2
        break
    left.set()
    until = time.monotonic() + 60
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not threads()
    assert len(made) <= 1 + 2  # the first, and one that each thread had begun


STUCK = """
import sys, threading
from pathlib import Path
from stoker.storage import open_store
from stoker.training import Loader
from stoker.training import ShardStream
from stoker.training import TextStream
def make(samples, draws):
    if samples.keys != first:
        threading.Event().wait()
    return samples.keys
store, options = open_store(sys.argv[1]), {{"batch_size": 4, "cache": Path(sys.argv[2])}}
first = ShardStream(store, "small@1", **options).batch(0, 0).keys
loader = Loader(ShardStream(store, "small@1", make=make, **options), workers=2)
for batch in loader:
    print(len(batch), flush=True)
    if {interrupt}:
        raise KeyboardInterrupt
    break
"""


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [False, True])
def test_a_stuck_thread_keeps_no_process_alive(disk: Small, interrupt: bool) -> None:
    command = [sys.executable, "-c", STUCK.format(interrupt=interrupt), str(disk.folder / "store"), str(disk.cache)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S)
    assert ended.stdout == "4\n"
    assert ended.returncode == (-signal.SIGINT if interrupt else 0), ended.stderr


def test_leaving_the_loop_leaves_no_thread_when_closed(letters: Small) -> None:
    before = threading.active_count()
    loader = Loader(stream(letters, make=slow_tail), workers=3)
    for _ in loader:
        break
    loader.close()
    loader.stream.close()
    assert threading.active_count() <= before


def test_waiting_and_working_are_told_apart(letters: Small) -> None:
    measured = stream(letters)
    started = time.monotonic()
    for _ in Loader(measured, workers=1):
        time.sleep(0.005)
    passed = time.monotonic() - started
    sums = measured.counters.sums()
    assert sums["batches"] == 7
    assert sums["loop_s"] > 6 * 0.005
    assert sums["depth"] > 0
    assert 0 <= sums["waited_s"] <= passed - sums["loop_s"]


def test_a_tensor_batch_is_freed_before_the_next_is_asked_for(letters: Small) -> None:
    alive: list[int] = []
    tensors: list[Any] = []

    def make(samples: Samples, draws: Sequence[bytes]) -> torch.Tensor:
        import weakref

        made = torch.zeros(3)
        tensors.append(weakref.ref(made))
        return made

    for batch in Loader(stream(letters, make=make)):
        alive.append(sum(tensor() is not None for tensor in tensors))
        del batch
    assert max(alive) == 1


@pytest.mark.parametrize("options", [{"workers": -1}, {"ahead": 0}])
def test_wrong_options_are_told(letters: Small, options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected workers 0 or more"):
        Loader(stream(letters), **options)


def test_threads_read_the_windows_of_texts_in_order_across_the_ends_of_epochs(handbook: Small) -> None:
    def texts() -> TextStream:
        return TextStream(handbook.store, handbook.manifest, batch_size=16, window=400, cache=handbook.cache)

    plain, loader = texts(), Loader(texts(), workers=3, ahead=3)
    assert 2 <= len(loader) <= 20
    for _ in range(6):
        for expected, found in zip(plain, loader, strict=True):
            assert torch.equal(expected[0], found[0])
            assert torch.equal(expected[1], found[1])
    loader.close()


@pytest.mark.slow
def test_a_main_module_without_a_guard_is_named_as_the_cause(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from stoker.testing import sample_corpus\nfrom stoker.training import Loader, ShardStream\n"
        "stream = ShardStream(*sample_corpus(12), batch_size=4)\n"
        "for batch in Loader(stream, workers=1, kind='processes'):\n    print(len(batch))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=HANGS_S)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert 'put what the main module does under `if __name__ == "__main__":`' in last
    assert "memory" not in last


def test_what_was_made_ahead_in_another_order_is_not_given_after_a_state_is_loaded(tmp_path: Path) -> None:
    corpus = sample_corpus(600)

    def made(**options: Any) -> ShardStream:
        return ShardStream(*corpus, batch_size=4, seed=1, decode=lambda sample: sample.key, cache=tmp_path, **options)

    old = made(quick_start=False)
    list(itertools.islice(old, 2))
    state = old.state_dict()
    del state["quick_start"]  # as releases without it wrote it
    with closing(Loader(made(), workers=2)) as loader:
        list(itertools.islice(loader, 1))
        loader.load_state_dict(state)
        assert list(itertools.islice(loader, 4)) == list(itertools.islice(old, 4))
    old.close()
