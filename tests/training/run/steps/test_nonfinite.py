"""A loss or gradient that is not finite: the run ends and names samples, or skips the batch; NaN is never saved."""

import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.models.cnn import Cnn
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.checkpoint import CheckpointInfo
from stoker.training.run.model import StepOutput
from stoker.training.run.steps.saver import refuse_non_finite
from stoker.training.run.train import Event
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream
from tests.distributions import install
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, equal, run, weights


@dataclass(frozen=True)
class Dazzled(Cnn):
    """A Cnn of which a white image makes the loss NaN, with all means of its batch, or only the gradient."""

    loss: bool = True

    def compute_loss(
        self, module: nn.Module, batch: Any, state: tuple[Tensor, ...], device: torch.device
    ) -> StepOutput:
        images = batch[0].float()
        if not bool((images.mean((1, 2, 3)) > 250).any()):
            return super().compute_loss(module, batch, state, device)
        if self.loss:
            return super().compute_loss(module, (images * math.nan, batch[1]), state, device)
        output = super().compute_loss(module, batch, state, device)
        zero = (0 * next(module.parameters()).sum()).sqrt()  # its gradient is 0 / 0
        return replace(output, loss=output.loss + zero)


@pytest.fixture(autouse=True)
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "stoker-dazzled", {"models dazzled": f"{__name__}:Dazzled"})
    monkeypatch.syspath_prepend(tmp_path)


VALUES = {name: value for name, value in CNN.items() if name not in ("epochs", "batch_size")}
VALUES |= {"epochs": 2, "batch_size": 16, "shift": 0, "workers": 0}


@pytest.fixture
def dazzling(tmp_path: Path) -> Small:
    """150 digits, of which one is white."""
    file = io.BytesIO()
    Image.new("L", (32, 32), 255).save(file, "PNG")
    samples = [
        Sample(sample.key, sample.fields, {**sample.record, "url": f"https://example.org/{sample.key}.png"})
        for sample in corpora.digits()[:200]
    ]
    samples[77] = replace(samples[77], fields={"png": file.getvalue()})
    store = MemoryStore()
    splits = {"train": samples[:150], "validation": samples[150:]}
    return Small(store, corpora.version(store, tmp_path, splits, per_shard=40), tmp_path)


@pytest.mark.parametrize(("loss", "what"), [(True, "the loss is nan"), (False, "the gradient is not finite")])
def test_the_run_ends_with_the_names_of_the_batchs_samples_and_the_checkpoint_before_is_whole(
    dazzling: Small, loss: bool, what: str
) -> None:
    values = VALUES | {"loss": loss, "checkpoint_s": 0.0001}
    with pytest.raises(
        TrainingError, match=rf"{what} at step \d of 20 .*https://example.org/.*--on-nan skip:10"
    ) as told:
        run(dazzling, "dazzled", values)
    assert len(str(told.value).splitlines()) == 1
    (name,) = checkpoints.runs(dazzling.store, "small")
    lines = (dazzling.folder / "runs" / "small" / name / "nonfinite.jsonl").read_text().splitlines()
    named = [json.loads(line) for line in lines]
    white = {"key": "digit-0077", "url": "https://example.org/digit-0077.png"}
    assert len(named) == 16
    assert any(white.items() <= one.items() and one["shard"].endswith(".tar") for one in named)
    step = named[0]["step"]
    found = checkpoints.newest(dazzling.store, "small", name)
    if step:
        assert found is not None
        assert 0 < found.info.step <= step
        assert all(tensor.isfinite().all() for tensor in found.state["module"].values())


@pytest.mark.parametrize("loss", [True, False])
def test_so_many_batches_are_skipped_and_told_and_resuming_changes_nothing(dazzling: Small, loss: bool) -> None:
    values, events = VALUES | {"loss": loss, "on_nan": "skip:2"}, list[Event]()
    whole = run(dazzling, "dazzled", values, progress=events.append)
    notes = [event.notes[0] for event in events if event.kind == "note"]
    assert ["1 of at most 2" in notes[0], "2 of at most 2" in notes[1], len(notes)] == [True, True, 2]
    assert all("its batch was skipped" in note and "digit-" in note for note in notes)
    learnt = weights(dazzling, whole.run)
    assert all(tensor.isfinite().all() for tensor in learnt.values())
    first = run(dazzling, "dazzled", values, stop=after(11))
    rest = run(dazzling, "dazzled", values, resume=True)
    assert rest.run == first.run
    assert equal(learnt, weights(dazzling, rest.run))


def test_more_than_may_be_skipped_end_the_run_which_then_goes_on_with_more(dazzling: Small) -> None:
    values = VALUES | {"checkpoint_s": 0.0001}
    with pytest.raises(TrainingError, match=r"1 such batches were skipped before \(on_nan = skip:1\)"):
        run(dazzling, "dazzled", values | {"on_nan": "skip:1"})
    rest = run(dazzling, "dazzled", values | {"on_nan": "skip:2"}, resume=True)
    assert (rest.run, rest.stopped) == ("dazzled-0001", False)
    assert rest.resumed_at >= 10


def test_weights_that_are_not_finite_are_not_saved() -> None:
    info = CheckpointInfo("cnn-0001", 3, "", 0, "", {}, "digits@1", "", False, {})
    refuse_non_finite(info, {"bias": torch.zeros(3), "steps": torch.tensor(3)})
    with pytest.raises(TrainingError, match="weights bias are not finite at step 3, and are not saved"):
        refuse_non_finite(info, {"bias": torch.tensor([0.0, math.inf])})


def test_streams_name_the_samples_of_a_global_batch(letters: Small) -> None:
    batches = []
    for rank in range(2):
        stream = ShardStream(
            letters.store, letters.manifest, cache=letters.cache, batch_size=6, seed=1, rank=rank, world_size=2
        )
        batches.append(stream.batch(0, 24).keys)
        named = stream.samples_at(0, 24).keys
        stream.close()
    assert named == batches[0] + batches[1]


@pytest.mark.parametrize("last", ["drop", "pad"])
def test_a_stream_of_texts_names_the_documents_of_a_window(letters: Small, last: Any) -> None:
    """Each of the 26 documents is a letter, three times: the tokens tell which they are of."""
    stream = TextStream(letters.store, letters.manifest, cache=letters.cache, batch_size=3, window=5, last=last)
    while len(stream):
        tokens, _ = stream.batch(0, stream.delivered)
        read = {chr(token) for token in tokens.flatten().tolist() if token < 256}
        named = set(stream.samples_at(0, stream.delivered).keys)
        assert read <= named
        assert len(named) <= len(read) + 3  # of some the boundary alone was read
        stream.advance()
    stream.close()
