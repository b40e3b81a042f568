"""LeNet with Muon on Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), where its files are at hand."""

import gzip
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from tests.data import SHARED, needs_shared
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import run


def fashion(folder: Path, name: str) -> Iterator[Sample]:
    images = np.frombuffer(gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
    for number, (pixels, label) in enumerate(zip(images.reshape(-1, 28, 28), labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        yield Sample(f"{name}-{number:05d}", {"png": file.getvalue()}, {"label": str(label)})


@pytest.mark.slow
@needs_shared
def test_one_epoch_of_lenet_with_muon_tells_88_percent_of_fashion_mnist(tmp_path: Path) -> None:
    assert SHARED
    store, folder = MemoryStore(), SHARED / "fashion-mnist"
    splits = {"train": fashion(folder, "train"), "validation": fashion(folder, "t10k")}
    small = Small(store, corpora.version(store, tmp_path, splits, per_shard=10_000), tmp_path)
    values = {"net": "lenet5", "pixels": 28, "shift": 0, "epochs": 1, "batch_size": 128, "threads": 1, "device": "cpu"}
    begun = time.process_time()
    result = run(small, "cnn", values | {"optimiser": "muon", "learning_rate": 0.01})
    assert result.metrics["accuracy"] >= 0.885
    assert time.process_time() - begun < 60  # 12 on a quiet core, reading and decoding with it
