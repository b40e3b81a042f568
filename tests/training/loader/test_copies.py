"""Batches are handed over on the device, in their order, whatever was copied ahead.

Torch's device "meta" has no memory, so that a copy to it is seen to have been made on a machine without a GPU.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch

from stoker.training.errors import CorruptSample
from stoker.training.loader.batches import of_tensors
from stoker.training.loader.copies import DeviceCopies
from stoker.training.loader.loader import Loader
from stoker.training.reading.samples import Samples
from stoker.training.stream.stream import ShardStream
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run

META = torch.device("meta")


class Pair(NamedTuple):
    numbers: torch.Tensor
    names: list[str]


def numbered(samples: Samples, draws: Sequence[bytes]) -> Pair:
    if "m" in samples.keys:
        raise CorruptSample(samples.keys.index("m"), "m is broken")
    return Pair(torch.tensor([ord(key) for key in samples.keys]), samples.keys)


def letters_of(small: Small, **options: Any) -> ShardStream:
    every: dict[str, Any] = {"batch_size": 4, "make": numbered, "on_corrupt": "skip_samples"} | options
    return ShardStream(small.store, small.manifest, cache=small.cache, seed=1, **every)


def place(loader: Loader) -> dict[str, Any]:
    """The state without what was skipped: that is known as soon as a thread has made the batch ahead."""
    return {name: value for name, value in loader.state_dict().items() if not name.startswith("skipped")}


def test_tensors_are_moved_and_all_else_of_a_batch_stays() -> None:
    batch = {"pair": Pair(torch.ones(3), ["a", "b"]), "more": [(torch.zeros(2), 5), None]}
    copies = DeviceCopies(META)
    moved = copies.finish(copies.start(batch))
    assert isinstance(moved["pair"], Pair)
    assert moved["pair"].numbers.device == moved["more"][0][0].device == META
    assert (moved["pair"].names, moved["more"][0][1], moved["more"][1]) == (["a", "b"], 5, None)
    assert of_tensors([torch.ones(1)], lambda tensor: tensor * 2) == [torch.tensor([2.0])]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_batches_are_those_without_a_device_also_after_a_stop_and_across_epochs(
    letters: Small, workers: int
) -> None:
    expected, found = letters_of(letters), letters_of(letters)
    plain, moved = Loader(expected, workers=workers), Loader(found, workers=workers, device=torch.device("cpu"))
    for stop in (2, 99, 3, 1, 99):
        seen: list[list[list[str]]] = []
        for loader in (plain, moved):
            seen.append([])
            for number, batch in enumerate(loader, 1):
                assert [chr(one) for one in batch.numbers.tolist()] == batch.names
                seen[-1].append(batch.names)
                if number == stop:
                    break
        assert seen[0] == seen[1]
        assert place(plain) == place(moved)
    state = moved.state_dict() | {"epoch": 0, "delivered": 8}
    moved.load_state_dict(state)
    plain.load_state_dict(state)
    assert [batch.names for batch in moved] == [batch.names for batch in plain]
    plain.close()
    moved.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_handed_over_on_the_device(letters: Small, workers: int) -> None:
    loader = Loader(letters_of(letters), workers=workers, device=META)
    assert [batch.numbers.device for batch in loader] == [META] * 7
    loader.close()


def test_the_next_batch_is_copied_while_the_loop_has_this_one_and_no_other(
    letters: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real = DeviceCopies.start

    def start(self: DeviceCopies, batch: Any) -> Any:
        started.append(batch)
        return real(self, batch)

    monkeypatch.setattr(DeviceCopies, "start", start)
    loader = Loader(letters_of(letters), workers=1, ahead=3, device=META)
    for number, _ in enumerate(loader, 1):
        for future in list(loader._pending.values()):
            future.exception(timeout=10)
        assert len(started) == number + 1 or (number == len(started) == 1)
    loader.close()


def test_an_error_comes_at_its_batchs_turn_and_again(letters: Small) -> None:
    stream = letters_of(letters, on_corrupt="stop")
    loader = Loader(stream, workers=2, device=META)
    for _ in range(2):
        with pytest.raises(CorruptSample, match="m is broken"):
            list(loader)
        assert "m" in stream.samples_at(stream.epoch, stream.delivered).keys
    loader.close()


def test_training_on_a_cpu_moves_nothing(digits: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[Any] = []

    class Watched(Loader):
        def __init__(self, *given: Any, **options: Any) -> None:
            devices.append(options.get("device"))
            super().__init__(*given, **options)

    monkeypatch.setattr("stoker.training.run.loop.Loader", Watched)
    run(digits, "cnn", CNN | {"max_steps": 1, "device": "cpu"})
    assert devices == [None, None]
