"""A stream is compared with published figures, and with what is measured here."""

from typing import Any

import pytest

from stoker.training.errors import TrainingError
from stoker.training.feeding.compare import compare
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.stream.stream import ShardStream
from tests.training.conftest import Small

HOW: dict[str, Any] = {"size": 28, "workers": 1, "seconds": 0.05}


def stream(small: Small, size: int = 0) -> ShardStream:
    make = PictureMaker(size) if size else None
    return ShardStream(small.store, small.manifest, cache=small.cache, batch_size=4, make=make)


def test_of_published_figures_each_has_its_verdict(digits: Small) -> None:
    found = compare(stream(digits, 28), "resnet50@h100", rate=893.0, **HOW)
    assert [(one.feeds, round(one.ratio, 2), round(one.stall, 2)) for one in found] == [(False, 0.5, 0.5)]
    (fast,) = compare(stream(digits, 28), "resnet18@rtx3090", rate=1e4, **HOW)
    assert (fast.feeds, fast.stall, fast.fed) == (True, 0.0, None)


def test_a_language_model_consumes_as_many_texts_as_its_tokens_make(handbook: Small) -> None:
    one, other = (compare(stream(handbook), "lstm", rate=rate, **HOW)[0] for rate in (1e9, 1e-9))
    assert one.feeds
    assert not other.feeds
    assert 0 < one.consumption.samples_per_s < 1e4  # documents of kilobytes, not windows of 64 bytes


@pytest.mark.parametrize(("network", "size"), [("lstm", 28), ("lenet", 0)])
def test_what_a_network_cannot_read_is_refused(digits: Small, network: str, size: int) -> None:
    with pytest.raises(TrainingError, match=f"{network} does not consume what small@1 has"):
        compare(stream(digits, size), network, rate=1.0, **HOW)
