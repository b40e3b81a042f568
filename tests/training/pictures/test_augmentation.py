"""What a classifier trains on: random crops of large images, mirrored ones, mixed ones."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.own.network import model_class
from stoker.training.run.model import Corpus
from stoker.training.run.options import parse_options, run_identity
from tests.training import corpora
from tests.training.conftest import Small


@pytest.fixture
def flags(tmp_path: Path) -> Small:
    """Images of 80 x 40 px whose left end is red and right end is blue; what lies between is green, and a square."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:60, 1] = pixels[:, 60:, 2] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    samples = [Sample(f"flag{number}", {"png": file.getvalue()}, {"label": "ab"[number % 2]}) for number in range(24)]
    store, splits = MemoryStore(), {"train": samples, "validation": samples[:6]}
    return Small(store, corpora.version(store, tmp_path, splits, per_shard=10), tmp_path)


def batches(small: Small, *, training: bool = True, epoch: int = 0, **options: Any) -> list[Any]:
    """The batches of an epoch, of eight 16 x 16 images each."""
    model, _ = parse_options("cnn", {"pixels": 16, "shift": 0, **options})
    corpus = Corpus(small.store, small.manifest, small.cache)
    schema = model.prepare(corpus, "train")
    stream = model.data(corpus, "train", schema, batch_size=8, seed=1, training=training)
    try:
        return [stream.batch(epoch, start) for start in range(0, 24, 8)]
    finally:
        stream.close()


def pictures(small: Small, **options: Any) -> torch.Tensor:
    return torch.cat([batch[0] for batch in batches(small, **options)])


def red_and_blue(images: torch.Tensor) -> torch.Tensor:
    """(B, 2): the share of each image that is red, and that is blue."""
    return images[..., [0, 2]].double().mean((1, 2)) / 255


def test_an_image_is_squeezed_into_a_square_or_cut_to_one(flags: Small) -> None:
    for training in (True, False):
        squeezed = red_and_blue(pictures(flags, training=training))
        torch.testing.assert_close(squeezed, torch.full_like(squeezed, 0.25), atol=0.02, rtol=0)
        assert red_and_blue(pictures(flags, training=training, crop="center")).max() < 0.02


def test_random_crops_are_parts_of_any_place_size_and_shape_and_evaluations_see_the_middle(flags: Small) -> None:
    shares = red_and_blue(pictures(flags, crop="random"))
    assert len({tuple(row) for row in shares.tolist()}) > 12
    assert ((shares[:, 0] > 0.5) & (shares[:, 1] == 0)).any()
    assert ((shares[:, 1] > 0.5) & (shares[:, 0] == 0)).any()
    whole = red_and_blue(pictures(flags, crop="random", crop_area=1.0))  # of this ratio none fits: the widest middle
    assert whole.max() < 0.2
    assert red_and_blue(pictures(flags, crop="random", training=False)).max() < 0.02


def test_random_crops_are_other_ones_in_each_epoch_and_the_same_again_in_the_same(flags: Small) -> None:
    first, again, next_epoch = (pictures(flags, crop="random", flip=True, epoch=epoch) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_epoch)


def test_half_of_the_images_are_mirrored_and_none_when_evaluated(flags: Small) -> None:
    left = pictures(flags, flip=True)[:, 0, 0]
    mirrored = int((left[:, 2] == 255).sum())
    assert 4 < mirrored < 20
    assert int((left[:, 0] == 255).sum()) == 24 - mirrored
    assert not (pictures(flags, flip=True, training=False)[:, 0, 0, 2] == 255).any()
    plain, turned = (pictures(flags, crop="random", flip=flip) for flip in (False, True))
    same = [torch.equal(image, other) for image, other in zip(plain, turned, strict=True)]
    opposite = [torch.equal(image, other.flip(1)) for image, other in zip(plain, turned, strict=True)]
    assert all(one or other for one, other in zip(same, opposite, strict=True))
    assert 4 < sum(opposite) < 24


def test_augmentation_that_is_not_used_leaves_the_identity_of_a_run_as_it_was() -> None:
    own = run_identity("cnn", *parse_options("cnn", {}))["options"]
    assert not {"crop", "crop_area"} & own.keys()
    assert run_identity("cnn", *parse_options("cnn", {"crop": "random"}))["options"]["crop"] == "random"


@pytest.mark.parametrize("option", ["crop_area"])
def test_a_wrong_option_of_augmentation_is_refused(option: str, tmp_path: Path) -> None:
    network = tmp_path / "net.py"
    network.write_text("def build(num_classes): pass\n")
    model_class.cache_clear()
    for name in ("cnn", f"{network}:build"):
        for value in (-0.1, 11.0, float("nan")):
            with pytest.raises(TrainingError, match=f"{option} = {value}; expected"):
                parse_options(name, {option: value})
