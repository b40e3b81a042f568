"""Training on a GPU: it learns, goes on after a stop, and its checkpoints load where there is none."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from stoker.storage import open_store
from stoker.storage.shards.sample import Sample
from stoker.training.loader.loader import Loader
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.reading.samples import Samples
from stoker.training.run.devices import device_of
from stoker.training.run.image_classifier import ImageClassifier
from stoker.training.run.steps.ranks import Ranks
from stoker.training.run.train import Event
from stoker.training.stream.stream import ShardStream
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, after, run, weights
from tests.training.run.steps import fsdp_rank
from tests.training.run.steps.small_ranks import Part, alone, launch_parts, results_of, small_store, state_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA")


def test_a_gpu_that_is_there_is_taken() -> None:
    assert device_of("auto").type == "cuda"


@pytest.mark.parametrize(("model", "values"), [("cnn", CNN), ("lstm", LSTM)])
def test_a_run_on_a_gpu_learns_as_one_on_the_cpu(
    digits: Small, handbook: Small, model: str, values: dict[str, Any]
) -> None:
    small = digits if model == "cnn" else handbook
    results, losses = {}, dict[str, list[float]]()
    for device in ("cpu", "cuda"):
        events: list[Event] = []
        results[device] = run(small, model, values | {"device": device, "epochs": 3}, progress=events.append)
        losses[device] = [event.metrics["loss"] for event in events if event.kind == "evaluate"]
    assert losses["cuda"][-1] < losses["cuda"][0]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
    assert all(tensor.device.type == "cpu" for tensor in weights(small, results["cuda"].run).values())


@pytest.mark.parametrize(("model", "values"), [("cnn", CNN), ("lstm", LSTM)])
def test_a_run_stopped_on_a_gpu_goes_on_there_and_on_a_cpu(
    digits: Small, handbook: Small, model: str, values: dict[str, Any]
) -> None:
    small = digits if model == "cnn" else handbook
    whole = run(small, model, values | {"device": "cuda"})
    first = run(small, model, values | {"device": "cuda"}, stop=after(3))
    assert (first.stopped, first.step) == (True, 3)
    rest = run(small, model, values | {"device": "cuda"}, resume=True)
    assert (rest.run, rest.resumed_at, rest.step) == (first.run, 3, whole.step)
    expected, got = weights(small, whole.run), weights(small, rest.run)
    for name, tensor in expected.items():  # close, not equal: sums on a GPU have no fixed order
        torch.testing.assert_close(got[name], tensor, rtol=1e-2, atol=1e-3)


def test_a_checkpoint_of_more_gpus_goes_on_on_one() -> None:
    device = device_of("cuda")
    torch.manual_seed(5)
    state, others = torch.cuda.get_rng_state(), [torch.zeros(16, dtype=torch.uint8)] * 64
    expected = torch.rand(4, device=device)
    saved = {"random": torch.get_rng_state(), "cuda_random": [state, *others], "step": 5}
    Ranks().restore_random(saved, device)
    assert torch.equal(torch.rand(4, device=device), expected)
    Ranks(1, 2).restore_random(saved, device)
    assert not torch.equal(torch.rand(4, device=device), expected)


def ones(samples: Samples, draws: Sequence[bytes]) -> torch.Tensor:
    return torch.ones(len(samples.keys))


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_handed_over_in_pinned_memory(
    tmp_path: Path, kind: Literal["threads", "processes"], workers: int
) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = corpora.version(
        store, tmp_path, {"train": [Sample(f"{n}", {"txt": b"x"}) for n in range(20)]}, per_shard=7
    )
    stream = ShardStream(store, manifest, cache=tmp_path / "cache", batch_size=4, make=ones)
    loader = Loader(stream, workers=workers, kind=kind, pin_memory=True)
    pinned = [batch.is_pinned() for batch in loader]
    loader.close()
    assert pinned == [True] * 5


def test_the_gpus_own_clock_tells_how_long_it_waited_for_batches(letters: Small) -> None:
    def slowly(samples: Samples, draws: Sequence[bytes]) -> torch.Tensor:
        time.sleep(0.05)
        return ones(samples, draws)

    numbers = torch.rand(2048, 2048, device="cuda")
    shares = []
    for make, products in ((slowly, 10), (ones, 300)):
        stream = ShardStream(letters.store, letters.manifest, cache=letters.cache, batch_size=4, make=make)
        loader = Loader(stream)
        for _ in range(3):  # an epoch reads the events of the one before
            for _ in loader:
                for _ in range(products):
                    numbers = torch.tanh(numbers @ numbers)
            torch.cuda.synchronize()
        sums = stream.counters.sums()
        shares.append(sums["idle_s"] / sums["device_s"])
    assert shares[0] > 0.5
    assert shares[1] < 0.2


def test_batches_that_are_copied_ahead_are_those_of_the_loop_and_train_the_same(
    digits: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ShardStream(digits.store, digits.manifest, batch_size=32, make=PictureMaker(16), cache=digits.cache)
    expected = [batch.images for batch in Loader(stream)]
    stream.epoch = 0
    loader = Loader(stream, workers=2, pin_memory=True, device=torch.device("cuda"))
    for epoch in range(1, 4):
        found = [batch.images for batch in loader]
        assert {images.device.type for images in found} == {"cuda"}
        if epoch == 1:
            assert all(torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))
        assert stream.epoch == epoch
    loader.close()
    ahead = run(digits, "cnn", CNN | {"device": "cuda"})
    monkeypatch.setattr(ImageClassifier, "takes_device_batches", False)
    plain = run(digits, "cnn", CNN | {"device": "cuda"})
    for name, weights_of in weights(digits, ahead.run).items():
        torch.testing.assert_close(weights(digits, plain.run)[name], weights_of, rtol=1e-2, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_two_gpus_that_divide_the_weights_train_as_one_does(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    options = {"optimiser": "nesterov", "learning_rate": 0.01, "device": "cuda", "fsdp": True}
    parts = [
        Part("cnn", "digits", CNN | options | {"batch_size": 49, "ema": 0.9}),
        Part("lstm", "texts", LSTM | options | {"batch_size": 5, "dropout": 0.0, "max_steps": 12}),
    ]
    results = results_of(launch_parts(fsdp_rank.__file__, tmp_path, 2, parts))
    for part, (name, *_) in zip(parts, results, strict=True):
        expected = state_of(store, part.corpus, alone(tmp_path, store, part).run)["module"]
        for weights_name, tensor in state_of(store, part.corpus, name)["module"].items():
            torch.testing.assert_close(tensor, expected[weights_name], rtol=1e-2, atol=1e-3)
