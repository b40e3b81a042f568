"""How long a device waited between two steps, told by its own events."""

from typing import Any

import pytest

from stoker.training.loader.gpu_idle import DeviceIdle
from stoker.training.reading.counters import Counters


class Device:
    """A device whose clock is set by hand, and which reaches events when told to."""

    def __init__(self) -> None:
        self.now, self.reached = 0.0, False

    def event(self) -> "Event":
        return Event(self, self.now)


class Event:
    def __init__(self, device: Device, at: float) -> None:
        self.device, self.at = device, at

    def query(self) -> bool:
        return self.device.reached

    def elapsed_time(self, other: "Event") -> float:
        return (other.at - self.at) * 1000


def test_gaps_between_steps_are_counted_once_the_device_has_passed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    device, counters = Device(), Counters()
    idle = DeviceIdle(counters)
    monkeypatch.setattr(idle, "_event", device.event)
    for waits, works in ((9, 1), (2, 3), (1, 4)):  # the wait for the first batch is not one between steps
        device.now += waits
        idle.begin()
        device.now += works
        idle.end()
        assert counters.sums() == {}  # the device has reached nothing yet, and nobody waits for it
    device.reached = True
    device.now += 5
    idle.begin()
    device.now += 5
    idle.end()
    assert counters.sums() == pytest.approx({"idle_s": 2 + 1 + 5, "device_s": 5 + 5 + 10})


def test_nothing_is_measured_where_no_device_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def none() -> Any:
        return False

    monkeypatch.setattr(torch.cuda, "is_available", none)
    counters = Counters()
    idle = DeviceIdle(counters)
    for _ in range(3):
        idle.begin()
        idle.end()
    assert counters.sums() == {}
