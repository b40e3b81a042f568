"""Regions of JPEGs: the pixels that the whole image has there, at every scale; damage is never shown as an image."""

import io
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.training import jpeg, pictures
from stoker.training.crops import centre, random_crop, whole
from stoker.training.pictures import Damaged, picture

pytestmark = pytest.mark.skipif(jpeg.engine() != "turbojpeg", reason="no libturbojpeg 3 here")
FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lru_cache(maxsize=64)
def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise: what a photograph is made of."""
    generator = np.random.default_rng([width, height, seed])
    small = generator.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + generator.integers(-8, 9, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 90} | options))
    return file.getvalue()


def full(payload: bytes, scale: int) -> np.ndarray:
    """The whole image by simplejpeg, which is the same library."""
    import simplejpeg

    height, width, _, _ = simplejpeg.decode_jpeg_header(payload)
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)} if scale > 1 else {}
    return np.asarray(simplejpeg.decode_jpeg(payload, **least), np.int16)


@FUZZED
@given(
    width=st.integers(9, 300),
    height=st.integers(9, 300),
    box=st.tuples(*[st.floats(0, 1)] * 4),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    grey=st.booleans(),
    scale=st.sampled_from(jpeg.SCALES),
)
def test_a_region_is_what_the_whole_image_has_there(
    width: int, height: int, box: tuple[float, ...], subsampling: int, progressive: bool, grey: bool, scale: int
) -> None:
    image = drawn(width, height).convert("L") if grey else drawn(width, height)
    payload = encoded(image, subsampling=subsampling, progressive=progressive)
    across, down = 1 + int(box[2] * (width - 1)), 1 + int(box[3] * (height - 1))
    wanted = (int(box[0] * (width - across)), int(box[1] * (height - down)), across, down)
    assume(across // scale >= 16 and down // scale >= 16)  # a reduced scale is for boxes that stay large
    opened = jpeg.open_jpeg(payload)
    assert opened is not None
    assert (opened.width, opened.height) == (width, height)
    left, top, across, down = snapped = jpeg.snapped(wanted, scale)
    found = jpeg.decode(opened, snapped, scale=scale)
    assert found is not None
    expected = full(payload, scale)[top // scale :, left // scale :][: down // scale, : across // scale]
    assert found.shape == expected.shape
    away = np.abs(found.astype(np.int16) - expected)
    # At the region's edge the colour is upsampled without its neighbours beyond: 4:2:2 at a quarter differs most.
    assert away.mean() < 2
    assert away[2:-2, 2:-2].max(initial=0) <= 2


@given(
    box=st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 3000), st.integers(1, 3000)),
    scale=st.sampled_from(jpeg.SCALES),
)
def test_a_snapped_box_lies_on_whole_pixels_inside_the_box(box: tuple[int, int, int, int], scale: int) -> None:
    assume(box[2] >= 2 * scale and box[3] >= 2 * scale)
    snapped = jpeg.snapped(box, scale)
    assert all(edge % scale == 0 for edge in snapped)
    assert box[0] <= snapped[0] < snapped[0] + snapped[2] <= box[0] + box[2]
    assert box[1] <= snapped[1] < snapped[1] + snapped[3] <= box[1] + box[3]
    assert box[2] - snapped[2] < 2 * scale


@FUZZED
@given(data=st.data(), cut=st.booleans())
def test_damage_ends_in_an_error_or_an_image_and_never_in_a_crash(data: st.DataObject, cut: bool) -> None:
    payload = bytearray(encoded(drawn(64, 48), progressive=data.draw(st.booleans())))
    if cut:
        payload = payload[: data.draw(st.integers(0, len(payload) - 2))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    out = np.full((24, 24, 3), 77, np.uint8)
    try:
        picture(bytes(payload), out, whole, b"")
    except Damaged:
        return
    assert not cut or len(payload) > 200  # at most the last marker may be missing


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused_and_not_half_grey(share: float) -> None:
    payload = encoded(drawn(256, 256))
    with pytest.raises(Damaged, match="truncated"):
        picture(payload[: int(len(payload) * share)], np.empty((64, 64, 3), np.uint8), whole, b"")


def test_damage_leaves_no_trace_in_what_is_decoded_next() -> None:
    intact = encoded(drawn(200, 150))
    before, after = np.empty((100, 100, 3), np.uint8), np.empty((100, 100, 3), np.uint8)
    picture(intact, before, centre, b"")
    for progressive in (False, True):
        broken = encoded(drawn(90, 90), progressive=progressive)
        with pytest.raises(Damaged):
            picture(broken[: len(broken) // 2], np.empty((50, 50, 3), np.uint8), whole, b"")
        picture(intact, after, centre, b"")
        assert (before == after).all()


def noise(a: np.ndarray, b: np.ndarray) -> float:
    """The mean absolute difference, in levels of 255."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


@pytest.mark.parametrize("size", [(256, 256), (500, 400), (1200, 900), (231, 1000)])
@pytest.mark.parametrize("crop", [whole, centre])
def test_a_picture_is_near_to_a_filtered_resize_of_the_whole_image(size: tuple[int, int], crop: object) -> None:
    image = drawn(*size)
    payload = encoded(image, quality=95)
    out = np.empty((224, 224, 3), np.uint8)
    picture(payload, out, crop, b"")  # type: ignore[arg-type]  # one of the crops
    box = crop(*size, b"")  # type: ignore[operator]  # as above
    left, top, width, height = jpeg.snapped(box, jpeg.scale_for(box, (224, 224)))
    decoded = Image.open(io.BytesIO(payload)).convert("RGB")
    reference = decoded.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    assert noise(out, np.asarray(reference)) < 3.0


def test_other_engines_give_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encoded(drawn(640, 480))
    found = {}
    for name in ("turbojpeg", "simplejpeg", "pillow"):
        if name != "turbojpeg":
            monkeypatch.setattr(jpeg, "_library", lambda: None)
        if name == "pillow":
            monkeypatch.setattr(jpeg, "engine", lambda: "pillow")
        out = np.empty((96, 96, 3), np.uint8)
        picture(payload, out, centre, b"")
        found[name] = out
    assert noise(found["turbojpeg"], found["simplejpeg"]) < 1.5
    assert noise(found["turbojpeg"], found["pillow"]) < 3
    monkeypatch.setattr(pictures, "_opencv", lambda: None)
    out = np.empty((96, 96, 3), np.uint8)
    picture(payload, out, centre, b"")
    assert noise(found["pillow"], out) < 3


def test_images_are_upright_whatever_their_exif_says() -> None:
    image = drawn(60, 40)
    expected = np.empty((40, 60, 3), np.uint8)
    picture(encoded(image, quality=95), expected, whole, b"")
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for orientation, turn in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        out = np.empty((40, 60, 3), np.uint8)
        picture(encoded(image.transpose(turn), quality=95, exif=exif), out, whole, b"")
        assert noise(out, expected) < 3


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_jpeg_is_read_in_grey_and_colour(mode: str, channels: int) -> None:
    image = drawn(80, 80).convert(mode)
    out = np.empty((40, 40, channels), np.uint8)
    picture(encoded(image, quality=95), out, whole, b"")
    plain = image.convert("L" if channels == 1 else "RGB").resize((40, 40), Image.Resampling.BILINEAR)
    assert noise(out, np.asarray(plain).reshape(out.shape)) < 4


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), draws=st.binary(min_size=32, max_size=32))
def test_a_random_crop_lies_inside_and_has_the_area_and_shape_that_it_may(
    width: int, height: int, draws: bytes
) -> None:
    left, top, across, down = random_crop(width, height, draws, scale=(0.25, 1), ratio=(3 / 4, 4 / 3))
    assert 0 <= left <= left + across <= width
    assert 0 <= top <= top + down <= height
    assert min(across, down) >= 1
    if min(width, height) > 100 and 0.8 < width / height < 1.25:
        assert across * down >= 0.24 * width * height
        assert 0.7 < across / down < 1.4


def test_random_crops_are_spread_evenly() -> None:
    generator = np.random.default_rng(1)
    crops = [random_crop(256, 256, generator.bytes(32), scale=(0.08, 1), ratio=(3 / 4, 4 / 3)) for _ in range(4000)]
    areas = np.array([width * height / 65536 for _, _, width, height in crops])
    assert 0.44 < areas.mean() < 0.54  # uniform in 0.08 to 1, of which some of the largest do not fit
    free = [
        (left / (256 - width), top / (256 - height)) for left, top, width, height in crops if max(width, height) < 200
    ]
    assert np.allclose(np.array(free).mean(axis=0), 0.5, atol=0.03)
