"""Batches of images: functions of seed, epoch and key; of every format; damaged images are named or skipped."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.pictures.crops import whole_image
from stoker.training.pictures.jpeg import DamagedImage
from stoker.training.pictures.pictures import PictureMaker, Pictures, decode_crop
from stoker.training.stream.stream import ShardStream
from tests.training import corpora
from tests.training.pictures.photographs import drawn, encoded, noise


def sample(number: int, payload: bytes, extension: str = "jpg", **record: Any) -> Sample:
    return Sample(f"s{number:02d}", {extension: payload}, {"label": number % 3} | record)


def stream(folder: Path, samples: Sequence[Sample], maker: PictureMaker, **options: Any) -> ShardStream:
    store = MemoryStore()
    manifest = corpora.version(store, folder, {"train": samples}, per_shard=5)
    return ShardStream(store, manifest, make=maker, cache=folder / "cache", **({"batch_size": 4} | options))


PHOTOS = tuple(sample(number, encoded(drawn(96 + 8 * number, 120, number))) for number in range(12))


def test_batches_are_functions_of_seed_epoch_and_key_alone(tmp_path: Path) -> None:
    def pixels(workers: int, **options: Any) -> dict[str, np.ndarray]:
        maker = PictureMaker(32, label="label")
        shuffled = stream(tmp_path, PHOTOS, maker, **options)
        images = {}
        for start in range(0, 12, shuffled.batch_size):
            samples = shuffled.fetch_samples(shuffled.locate_share(0, start))
            batch: Pictures = shuffled.assemble_batch(samples, 0)
            for key, image in zip(samples.keys, batch.images.numpy(), strict=True):
                images[key] = image.copy()
        return images

    first, other, again = pixels(0), pixels(0, batch_size=12, window=1), pixels(0, seed=1)
    assert all((first[key] == other[key]).all() for key in first)
    assert any((first[key] != again[key]).any() for key in first)


def test_threads_make_the_same_batches(tmp_path: Path) -> None:
    maker = PictureMaker(48, label="label")
    alone = [(batch.images.clone(), batch.classes) for batch in stream(tmp_path, PHOTOS, maker)]
    loader = Loader(stream(tmp_path, PHOTOS, maker), workers=3)
    for (images, classes), batch in zip(alone, loader, strict=True):
        assert torch.equal(images, batch.images)
        assert torch.equal(classes, batch.classes)
    loader.close()


def test_an_image_of_any_format_is_read_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    image = drawn(64, 64)
    samples = []
    for number, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")):
        file = io.BytesIO()
        image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}))
        samples.append(sample(number, file.getvalue(), "png"))
    maker = PictureMaker(64, crop="squeeze")
    (batch,) = stream(tmp_path, samples, maker, batch_size=6, shuffle=False)
    for decoded in batch.images.numpy():
        assert noise(decoded, np.asarray(image)) < 8  # GIF has 256 colours
    assert batch.classes.numel() == 0


def test_sixteen_bits_palettes_and_transparency_become_eight_bits(tmp_path: Path) -> None:
    deep = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    images = [
        Image.fromarray(deep),
        drawn(64, 64).convert("P"),
        drawn(64, 64).convert("RGBA"),
        drawn(64, 64).convert("1"),
    ]
    samples = []
    for number, image in enumerate(images):
        file = io.BytesIO()
        image.save(file, "PNG")
        samples.append(sample(number, file.getvalue(), "png"))
    maker = PictureMaker(64, crop="squeeze", grey=True)
    (batch,) = stream(tmp_path, samples, maker, batch_size=4, shuffle=False)
    assert batch.images.shape == (4, 64, 64, 1)
    assert noise(batch.images[0, :, :, 0].numpy(), (deep >> 8).astype(np.uint8)) < 1


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's, of altered files
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_altered_bytes_of_any_format_are_an_image_or_a_damaged_image(kind: str) -> None:
    file = io.BytesIO()
    drawn(40, 40).save(file, kind)
    generator = np.random.default_rng(len(kind))
    out = np.empty((24, 24, 3), np.uint8)
    read = 0
    for number in range(300):
        payload = bytearray(file.getvalue())
        for _ in range(number % 5):
            payload[int(generator.integers(0, min(len(payload), 200)))] = int(generator.integers(0, 256))
        try:
            decode_crop(memoryview(payload)[: None if number % 3 else -(number + 1)], out, whole_image, b"")
            read += 1
        except DamagedImage:
            continue
    assert 0 < read < 300


def test_a_document_is_no_image() -> None:
    with pytest.raises(DamagedImage, match="does not decode"):
        decode_crop(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", np.empty((8, 8, 3), np.uint8), whole_image, b""
        )


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    payload = bytearray(encoded(drawn(64, 64)))
    at = payload.index(b"\xff\xc0") + 5
    payload[at : at + 4] = b"\xea\x60\xea\x60"
    with pytest.raises(DamagedImage, match="60000 x 60000 px; at most"):
        decode_crop(bytes(payload), np.empty((8, 8, 3), np.uint8), whole_image, b"")


def test_samples_without_an_image_or_class_are_named_or_skipped(tmp_path: Path) -> None:
    broken = [*PHOTOS[:4], sample(4, b"\xff\xd8\xff nonsense"), sample(5, b"x", "txt"), *PHOTOS[6:]]
    maker = PictureMaker(32, label="label")
    with pytest.raises(CorruptSample, match=r"train-0000\d\.tar: sample s0[45]: (its image does not decode|no image)"):
        list(stream(tmp_path, broken, maker))
    with pytest.raises(CorruptSample, match=r"sample s05: no image field; its fields: json, txt"):
        next(iter(stream(tmp_path, broken[5:6], maker)))
    skipping = stream(tmp_path, broken, maker, on_corrupt="skip")
    assert sum(len(batch.images) for batch in skipping) == 10
    assert skipping.counters.sums()["skipped"] == 2
    with pytest.raises(CorruptSample, match=r"label is [02], none of 1 classes"):
        list(stream(tmp_path, PHOTOS, PictureMaker(32, label="label", classes=("1",))))


def test_classes_are_indices_of_the_names(tmp_path: Path) -> None:
    named = [sample(number, encoded(drawn(40, 40)), label=name) for number, name in enumerate(("cat", "dog", "cat"))]
    maker = PictureMaker(16, label="label", classes=("dog", "cat"))
    (batch,) = stream(tmp_path, named, maker, shuffle=False)
    assert batch.classes.tolist() == [1, 0, 1]


def test_classes_of_external_tars_are_files_and_text_is_a_number(tmp_path: Path) -> None:
    image = encoded(drawn(40, 40))
    files = [Sample(f"s{number}", {"jpg": image, "cls": b"%d\n" % number}, {}) for number in range(3)]
    for label in ("label", "cls"):
        (batch,) = stream(tmp_path, files, PictureMaker(16, label=label), shuffle=False)
        assert batch.classes.tolist() == [0, 1, 2]
    texts = [sample(number, image, label=f"{number + 5}") for number in range(2)]
    (batch,) = stream(tmp_path, texts, PictureMaker(16, label="label"), shuffle=False)
    assert batch.classes.tolist() == [5, 6]
    cats = [sample(0, image, label="cat")]
    with pytest.raises(CorruptSample, match=r"label is 'cat', no whole number; name classes="):
        list(stream(tmp_path, cats, PictureMaker(16, label="label")))


def test_a_maker_can_be_pickled_for_a_worker_process() -> None:
    maker = PictureMaker(20, crop="center", classes=("a", "b"), label="label")
    assert pickle.loads(pickle.dumps(maker)) == maker


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"crop": "all"}, {"scale": (0.5, 2.0)}, {"scale": (0.9, 0.1)}, {"ratio": (0.0, 1.0)}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        PictureMaker(**options)


def test_a_mirrored_crop_has_left_and_right_exchanged() -> None:
    left_dark = np.zeros((64, 64, 3), np.uint8)
    left_dark[:, 32:] = 255
    payload = encoded(Image.fromarray(left_dark))
    out = np.empty((32, 32, 3), np.uint8)
    for mirror in (False, True):
        decode_crop(payload, out, whole_image, b"", mirror=mirror)
        assert (out[:, :8].mean() > 200) == mirror
