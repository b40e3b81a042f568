"""Mixed images are the same on any number of ranks, also where some images do not decode; their loss is mixed, too."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import nn

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.run.model import Corpus
from stoker.training.run.options import parse_options
from tests.training import corpora
from tests.training.conftest import Small

MIXED = {"pixels": 16, "mixup": 0.5, "cutmix": 0.5}


@pytest.fixture
def broken(tmp_path: Path) -> Small:
    """Thirty digits of which every third or so does not decode."""
    samples = [
        Sample(one.key, {"png": one.fields["png"][:60]}, one.record) if number % 7 in (2, 3) else one
        for number, one in enumerate(corpora.digits()[:30])
    ]
    store, splits = MemoryStore(), {"train": samples, "validation": samples[:6]}
    return Small(store, corpora.version(store, tmp_path, splits, per_shard=12), tmp_path)


def epoch_of(small: Small, rank: int, world_size: int) -> list[tuple[torch.Tensor, ...]]:
    model, _ = parse_options("cnn", MIXED)
    corpus = Corpus(small.store, small.manifest, small.cache, skip_budget=100, rank=rank, world_size=world_size)
    schema = model.prepare(corpus, "train")
    stream = model.data(corpus, "train", schema, batch_size=13, seed=1, training=True)
    try:
        return list(stream)  # 13, 13 and 4 samples
    finally:
        stream.close()


@pytest.mark.parametrize("world_size", [2, 3, 13])
def test_the_batches_of_all_ranks_together_are_those_of_one_process(broken: Small, world_size: int) -> None:
    alone = epoch_of(broken, 0, 1)
    ranks = [epoch_of(broken, rank, world_size) for rank in range(world_size)]
    assert 15 < sum(len(batch[0]) for batch in alone) < 25
    for whole, shares in zip(alone, zip(*ranks, strict=True), strict=True):
        for number, tensor in enumerate(whole):
            assert torch.equal(torch.cat([part[number] for part in shares]), tensor)


def test_the_loss_of_a_mixed_image_is_that_of_both_classes_by_their_shares() -> None:
    model, _ = parse_options("cnn", MIXED | {"label_smoothing": 0.1})
    images, cpu = torch.zeros(3, 4), torch.device("cpu")
    network, classes, others = nn.Linear(4, 5), torch.tensor([0, 1, 2]), torch.tensor([2, 0, 0])

    def loss(*more: torch.Tensor) -> float:
        return float(model.compute_loss(network, (images, classes, *more), (), cpu).loss.detach())

    assert loss(others, torch.ones(3)) == pytest.approx(loss())
    shares = torch.tensor([0.25, 0.5, 1.0])
    targets = torch.zeros(3, 5).scatter_add_(1, classes[:, None], shares[:, None])
    targets.scatter_add_(1, others[:, None], 1 - shares[:, None])
    expected = F.cross_entropy(network(images), targets, label_smoothing=0.1)
    assert loss(others, shares) == pytest.approx(float(expected.detach()))


def test_evaluations_are_of_images_as_they_are(digits: Small) -> None:
    def first(options: dict[str, Any]) -> Any:
        model, _ = parse_options("cnn", {"pixels": 16, **options})
        corpus = Corpus(digits.store, digits.manifest, digits.cache)
        schema = model.prepare(corpus, "train")
        stream = model.data(corpus, "validation", schema, batch_size=8, seed=1, training=False)
        return next(iter(stream))

    plain, mixed = first({}), first(MIXED)
    assert torch.equal(plain[0], mixed[0])
    assert plain[2] == mixed[2]
