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
from stoker.training.pictures.augmentation import mix
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


def plain_images(count: int) -> np.ndarray:
    """Images of one colour each: 0, 10, 20, ..."""
    return np.ones((count, 16, 16, 3), np.uint8) * (10 * np.arange(count, dtype=np.uint8))[:, None, None, None]


DRAWS = [bytes([number]) * 32 for number in range(20)]


def test_mixup_is_the_mean_of_an_image_and_the_one_before_weighted_by_the_share() -> None:
    images = plain_images(20)
    shares = mix(images, DRAWS, mixup=1.0, cutmix=0.0)
    before = np.roll(plain_images(20), 1, axis=0)
    expected = shares[:, None, None, None] * plain_images(20) + (1 - shares)[:, None, None, None] * before
    np.testing.assert_allclose(images, expected, atol=0.51)
    assert len(set(shares.tolist())) > 15
    assert 0.3 < shares.mean() < 0.7
    extreme = mix(plain_images(20), DRAWS, mixup=0.05, cutmix=0.0)
    assert np.abs(extreme - 0.5).mean() > np.abs(shares - 0.5).mean()


def test_cutmix_puts_a_box_of_the_image_before_and_the_share_is_the_area_that_is_left() -> None:
    images = plain_images(20)
    shares = mix(images, DRAWS, mixup=0.0, cutmix=1.0)
    for number, (image, share) in enumerate(zip(images, shares, strict=True)):
        other = (image[..., 0] == 10 * ((number - 1) % 20)).astype(int)
        assert ((image[..., 0] == 10 * number) | (other == 1)).all()
        assert share == pytest.approx(1 - other.mean())
        rows, columns = other.any(1).sum(), other.any(0).sum()
        assert other.sum() == rows * columns
    assert len(set(shares.tolist())) > 10


def test_with_both_half_of_the_images_are_mixed_in_each_way() -> None:
    images = plain_images(20)
    mix(images, DRAWS, mixup=1.0, cutmix=1.0)
    blended = [len(np.unique(image)) == 1 and int(image[0, 0, 0]) % 10 != 0 for image in images]
    assert 5 < sum(blended) < 15


def test_a_mixture_depends_on_its_own_draws_and_the_image_before_it_alone() -> None:
    whole, part = plain_images(20), plain_images(20)[5:12]
    shares = mix(whole, DRAWS, mixup=0.4, cutmix=0.4)
    own = mix(part, DRAWS[5:12], mixup=0.4, cutmix=0.4, before=plain_images(20)[4])
    np.testing.assert_array_equal(part, whole[5:12])
    np.testing.assert_array_equal(own, shares[5:12])
    assert len(mix(whole[:0], [], mixup=1.0, cutmix=0.0)) == 0


def test_augmentation_that_is_not_used_leaves_the_identity_of_a_run_as_it_was() -> None:
    own = run_identity("cnn", *parse_options("cnn", {}))["options"]
    assert not {"crop", "crop_area", "mixup", "cutmix"} & own.keys()
    assert run_identity("cnn", *parse_options("cnn", {"crop": "random"}))["options"]["crop"] == "random"


@pytest.mark.parametrize("option", ["crop_area", "mixup", "cutmix"])
def test_a_wrong_option_of_augmentation_is_refused(option: str, tmp_path: Path) -> None:
    network = tmp_path / "net.py"
    network.write_text("def build(num_classes): pass\n")
    model_class.cache_clear()
    for name in ("cnn", f"{network}:build"):
        for value in (-0.1, 11.0, float("nan")):
            with pytest.raises(TrainingError, match=f"{option} = {value}; expected"):
                parse_options(name, {option: value})
