"""JPEG regions have the pixels of the whole image, at every scale; a damaged image is an error, never pixels."""

import io
import time
from importlib import resources

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from stoker.training.pictures import jpeg, libturbojpeg, pictures
from stoker.training.pictures.crops import Crop, centre_crop, whole_image
from stoker.training.pictures.jpeg import DamagedImage
from stoker.training.pictures.pictures import decode_crop
from tests.training.pictures.photographs import drawn, encoded, noise

pytestmark = pytest.mark.skipif(jpeg.engine() != "turbojpeg", reason="no libturbojpeg 3 here")
# Largest mean difference in levels of 255, and smallest peak signal to noise in dB, of a photograph of fine detail from
# Pillow's resize of the whole; True: decoded at a lower scale, whose filter is a box and not a triangle.
TOLERANCE = {False: (3.5, 32.0), True: (6.0, 28.0)}
FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def subsampled(image: Image.Image, subsampling: str, *, progressive: bool) -> bytes:
    if subsampling == "grey":
        return encoded(image.convert("L"), progressive=progressive)
    if subsampling in ("440", "411"):  # which Pillow does not write
        return bytes(simplejpeg.encode_jpeg(np.asarray(image), 90, colorsubsampling=subsampling))
    return encoded(image, subsampling={"444": 0, "422": 1, "420": 2}[subsampling], progressive=progressive)


def full(payload: bytes, scale: int, *, grey: bool) -> np.ndarray:
    """The whole image by simplejpeg, which is the same library."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(payload)
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)} if scale > 1 else {}
    return np.asarray(simplejpeg.decode_jpeg(payload, colorspace="GRAY" if grey else "RGB", **least))


@FUZZED
@given(
    data=st.data(),
    subsampling=st.sampled_from(["444", "422", "420", "440", "411", "grey"]),
    progressive=st.booleans(),
    scale=st.sampled_from(jpeg.SCALES),
)
def test_a_region_is_bit_for_bit_what_the_whole_image_has_there(
    data: st.DataObject, subsampling: str, progressive: bool, scale: int
) -> None:
    width, height = (data.draw(st.integers(scale, 300)) for _ in range(2))
    payload = subsampled(drawn(width, height), subsampling, progressive=progressive)
    across, down = data.draw(st.integers(scale, width)), data.draw(st.integers(scale, height))
    box = (data.draw(st.integers(0, width - across)), data.draw(st.integers(0, height - down)), across, down)
    left, top, across, down = snapped = jpeg.snap_box(box, scale)
    assume(left + across <= width and top + down <= height)  # scale_for asks for no box that has no pixel
    opened = jpeg.open_jpeg(payload)
    assert opened is not None
    assert (opened.width, opened.height) == (width, height)
    for grey in (False, True):
        region = jpeg.decode(opened, snapped, scale=scale, grey=grey)
        assert region is not None
        whole = full(payload, scale, grey=grey)
        if min(width, height) >= 16:  # of smaller ones simplejpeg may choose another scale that gives the same size
            expected = whole[top // scale :, left // scale :][: down // scale, : across // scale]
            assert np.array_equal(region, expected)


@given(
    box=st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 3000), st.integers(1, 3000)),
    scale=st.sampled_from(jpeg.SCALES),
)
def test_a_snapped_box_lies_on_whole_pixels_inside_the_box(box: tuple[int, int, int, int], scale: int) -> None:
    assume(box[2] >= 2 * scale and box[3] >= 2 * scale)
    snapped = jpeg.snap_box(box, scale)
    assert all(edge % scale == 0 for edge in snapped)
    assert box[0] <= snapped[0] < snapped[0] + snapped[2] <= box[0] + box[2]
    assert box[1] <= snapped[1] < snapped[1] + snapped[3] <= box[1] + box[3]
    assert box[2] - snapped[2] < 2 * scale


@given(
    box=st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 3000), st.integers(1, 3000)),
    least=st.tuples(st.integers(1, 600), st.integers(1, 600)),
)
def test_the_scale_is_the_smallest_with_enough_pixels(box: tuple[int, int, int, int], least: tuple[int, int]) -> None:
    def inside(scale: int) -> bool:
        _, _, across, down = jpeg.snap_box(box, scale)
        return across // scale >= least[0] and down // scale >= least[1]

    scale = jpeg.scale_for(box, least)
    assert scale == 1 or inside(scale)
    # A box of fewer than 2n pixels may be snapped to a pixel that is not all in it.
    assert scale == 8 or not inside(2 * scale) or min(box[2:]) < 4 * scale


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
        decode_crop(bytes(payload), out, whole_image, b"")
    except DamagedImage:
        return
    assert not cut  # Pillow refuses even one that lacks nothing but its last marker


def test_an_image_whose_data_ends_early_is_refused() -> None:
    payload = encoded(drawn(256, 256))
    start = payload.index(b"\xff\xda") + 14
    ends = payload[: start + 5000] + b"\xff\xd9"  # Pillow shows this half grey, and says nothing
    with Image.open(io.BytesIO(ends)) as image:
        image.load()
    out = np.empty((64, 64, 3), np.uint8)
    with pytest.raises(DamagedImage, match=r"lost data .*premature end of data segment"):
        decode_crop(ends, out, whole_image, b"")


def test_an_image_with_harmless_oddities_is_read() -> None:
    payload = encoded(drawn(64, 64))
    intact, odd = np.empty((64, 64, 3), np.uint8), np.empty((64, 64, 3), np.uint8)
    decode_crop(payload, intact, whole_image, b"")
    scan = payload.index(b"\xff\xda")
    for changed in (payload + b"tail", payload[:2] + b"\xff" + payload[2:], payload[:scan] + b"xx" + payload[scan:]):
        decode_crop(changed, odd, whole_image, b"")
        assert noise(intact, odd) < 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused_and_not_half_grey(share: float) -> None:
    payload = encoded(drawn(256, 256))
    with pytest.raises(DamagedImage, match="truncated"):
        decode_crop(payload[: int(len(payload) * share)], np.empty((64, 64, 3), np.uint8), whole_image, b"")


def test_a_damaged_image_does_not_change_the_pixels_of_the_next() -> None:
    intact = encoded(drawn(200, 150))
    before, after = np.empty((100, 100, 3), np.uint8), np.empty((100, 100, 3), np.uint8)
    decode_crop(intact, before, centre_crop, b"")
    for progressive in (False, True):
        broken = encoded(drawn(90, 90), progressive=progressive)
        with pytest.raises(DamagedImage):
            decode_crop(broken[: len(broken) // 2], np.empty((50, 50, 3), np.uint8), whole_image, b"")
        decode_crop(intact, after, centre_crop, b"")
        assert (before == after).all()


def signal_to_noise(a: np.ndarray, b: np.ndarray) -> float:
    """The peak ratio, in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, ((a.astype(np.float64) - b) ** 2).mean())))


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("side", [64, 96, 160, 224, 300, 400, 600])
@pytest.mark.parametrize("crop", [whole_image, centre_crop])
def test_a_crop_is_close_to_a_filtered_resize_of_the_whole_photograph(name: str, side: int, crop: Crop) -> None:
    payload = resources.files("sklearn.datasets").joinpath("images", name).read_bytes()
    decoded = Image.open(io.BytesIO(payload)).convert("RGB")
    out = np.empty((side, side, 3), np.uint8)
    decode_crop(payload, out, crop, b"")
    left, top, width, height = box = crop(*decoded.size, b"")
    part = decoded.crop((left, top, left + width, top + height))
    reference = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
    most_noise, least_ratio = TOLERANCE[jpeg.scale_for(box, (side, side)) > 1]
    assert noise(out, reference) < most_noise
    assert signal_to_noise(out, reference) > least_ratio
    unfiltered = cv2.resize(np.asarray(part), (side, side), interpolation=cv2.INTER_LINEAR)  # what other loaders do
    assert noise(out, reference) <= noise(unfiltered, reference)


def test_other_engines_give_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encoded(drawn(640, 480))
    by_engine = {}
    for name in ("turbojpeg", "simplejpeg", "pillow"):
        if name != "turbojpeg":
            monkeypatch.setattr(libturbojpeg, "library", lambda: None)
        if name == "pillow":
            monkeypatch.setattr(jpeg, "engine", lambda: "pillow")
        out = np.empty((96, 96, 3), np.uint8)
        decode_crop(payload, out, centre_crop, b"")
        by_engine[name] = out
    assert noise(by_engine["turbojpeg"], by_engine["simplejpeg"]) < 1.5
    assert noise(by_engine["turbojpeg"], by_engine["pillow"]) < 3
    monkeypatch.setattr(pictures, "_opencv", lambda: None)
    out = np.empty((96, 96, 3), np.uint8)
    decode_crop(payload, out, centre_crop, b"")
    assert noise(by_engine["pillow"], out) < 3


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_jpeg_is_read_in_grey_and_colour(mode: str, channels: int) -> None:
    image = drawn(80, 80).convert(mode)
    out = np.empty((40, 40, channels), np.uint8)
    decode_crop(encoded(image, quality=95), out, whole_image, b"")
    plain = image.convert("L" if channels == 1 else "RGB").resize((40, 40), Image.Resampling.BILINEAR)
    assert noise(out, np.asarray(plain).reshape(out.shape)) < 4


def with_scans(scans: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    file = io.BytesIO()
    Image.effect_noise((256, 256), 60).convert("RGB").save(file, "JPEG", quality=80, progressive=True)
    payload = file.getvalue()
    last = payload.rindex(b"\xff\xda")
    return payload[:-2] + payload[last:-2] * (scans - payload.count(b"\xff\xda")) + b"\xff\xd9"


def test_an_image_of_many_scans_is_refused_before_it_is_decoded() -> None:
    out = np.zeros((64, 64, 3), np.uint8)
    decode_crop(with_scans(10), out, whole_image, b"")
    assert out.std() > 1
    for scans in (65, 160, 400):
        payload = with_scans(scans)
        begun = time.process_time()
        with pytest.raises(DamagedImage, match="more than 64 scans"):
            decode_crop(payload, out, whole_image, b"")
        assert time.process_time() - begun < 1


def test_only_scans_of_the_image_itself_count() -> None:
    whole = with_scans(10)
    many = b"\xff\xda" * 1000
    segment = b"\xff\xe1" + (len(many) + 2).to_bytes(2, "big") + many  # as a thumbnail in Exif
    out = np.zeros((64, 64, 3), np.uint8)
    for payload in (
        whole[:2] + segment + whole[2:],
        whole + many,
        whole + with_scans(400),
        whole[:2] + b"\xff" * 9 + whole[2:],
    ):
        jpeg.check_scans(payload)
        jpeg.check_scans(memoryview(payload))
        decode_crop(payload, out, whole_image, b"")
    for payload in (whole[:2] + segment + with_scans(65)[2:], with_scans(65) + whole):
        with pytest.raises(DamagedImage, match="more than 64 scans"):
            jpeg.check_scans(payload)


@given(st.binary(max_size=300))
@FUZZED
def test_no_bytes_stop_the_count_of_scans(junk: bytes) -> None:
    for payload in (b"\xff\xd8" + junk, with_scans(12)[:-2] + junk):
        jpeg.check_scans(payload)
