"""Bits of a language model: by the byte, and by the character of UTF-8."""

import math
from pathlib import Path

import pytest
import torch

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.models.lstm import Lstm
from stoker.training.run.model import Corpus
from tests.training import corpora


class Uniform(torch.nn.Module):
    """Every token is as likely as any other."""

    def forward(self, tokens: torch.Tensor, state: object = ()) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return torch.zeros(*tokens.shape, 257), ()


@pytest.mark.parametrize(("text", "size"), [("abcd" * 50, 1), ("äöüß" * 50, 2), ("日本語文" * 50, 3), ("😀" * 200, 4)])
def test_bits_per_character_count_characters_of_utf_8(tmp_path: Path, text: str, size: int) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": [Sample("a", {"txt": text.encode()})]})
    model = Lstm(window=len(text.encode()) // 4)
    corpus = Corpus(store, manifest, tmp_path / "cache")
    batches = model.data(corpus, "train", {"vocabulary": 257}, batch_size=1, seed=0, training=False)
    metrics = model.evaluate(Uniform(), list(batches), {"vocabulary": 257}, torch.device("cpu"))  # type: ignore[call-overload]  # a stream iterates
    assert metrics["bits_per_byte"] == pytest.approx(math.log2(257), rel=0.01)
    assert metrics["bits_per_character"] == pytest.approx(size * metrics["bits_per_byte"], rel=0.02)
    batches.close()
