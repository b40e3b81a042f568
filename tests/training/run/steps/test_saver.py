"""Checkpoints are written beside the training: the loop goes on meanwhile, and learns what went wrong."""

import threading
from dataclasses import replace

import pytest
import torch

from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.steps.saver import to_cpu
from stoker.training.run.train import Event
from tests.conftest import HANGS_S
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, equal, run, weights


class SlowStore(MemoryStore):
    """Creates no checkpoint before ``go`` is set, and then raises ``error`` if there is one."""

    def __init__(self, objects: MemoryStore) -> None:
        super().__init__()
        self.__dict__.update(objects.__dict__)
        self.go, self.asked, self.error = threading.Event(), threading.Event(), None

    error: Exception | None

    def create(self, key: str, payload: Payload) -> None:
        if key.endswith(".pt"):
            self.asked.set()
            assert self.go.wait(HANGS_S)
            if self.error:
                raise self.error
        super().create(key, payload)


def test_steps_are_done_while_a_checkpoint_is_written(digits: Small) -> None:
    expected = run(digits, "cnn", CNN)
    store = SlowStore(digits.store)
    events: list[Event] = []
    meanwhile: list[int] = []

    def stop() -> bool:
        """Asked after every step."""
        meanwhile.extend([1] * store.asked.is_set())
        if len(meanwhile) == 3:
            store.go.set()
        return False

    slow = replace(digits, store=store)
    result = run(slow, "cnn", CNN | {"checkpoint_s": 0.0001, "epochs": 2}, progress=events.append, stop=stop)
    written = [event.step for event in events if event.kind == "checkpoint"]
    assert written == sorted(written)
    assert written[1] >= written[0] + 3
    assert written[-1] == result.step
    assert events[-1].kind == "end"
    assert equal(weights(digits, expected.run), weights(slow, result.run))


@pytest.mark.parametrize("checkpoint_s", [0.0001, 3600])
def test_what_writing_a_checkpoint_raises_ends_the_run(digits: Small, checkpoint_s: float) -> None:
    store = SlowStore(digits.store)
    store.go.set()
    store.error = StorageUnavailable("the disk is full")
    with pytest.raises(StorageUnavailable, match="the disk is full"):
        run(replace(digits, store=store), "cnn", CNN | {"checkpoint_s": checkpoint_s})
    (name,) = checkpoints.runs(store, "small")
    assert checkpoints.newest(store, "small", name) is None


def test_a_copied_state_does_not_change_with_the_weights() -> None:
    weight = torch.ones(2)
    copied = to_cpu({"module": {"weight": weight}, "list": [weight, 3], "tuple": (weight,), "text": "a"})
    weight.zero_()
    assert copied["module"]["weight"].tolist() == copied["list"][0].tolist() == copied["tuple"][0].tolist() == [1, 1]
    assert (copied["list"][1], copied["text"]) == (3, "a")
