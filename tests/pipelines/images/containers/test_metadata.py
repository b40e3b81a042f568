"""Metadata are removed without a change of pixels, orientation and colours."""

import io

import pytest
from PIL import Image, ImageCms, ImageOps

from stoker.pipelines.images.codec import MAX_PIXELS
from stoker.pipelines.images.containers.metadata import strip_metadata
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.steps.image import Image as ImageStep
from stoker.pipelines.steps.strip_metadata import StripMetadata
from stoker.storage.shards.sample import Sample
from tests.pipelines.images.test_jpeg import lossless_grey, wide_gamut
from tests.pipelines.pictures import decoded, packed, picture

# Pillow's warnings are silenced once a process, and pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FORMS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def telling(extension: str, orientation: int, *, profile: bytes | None = None) -> bytes:
    """An image that says where it was made."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "my house"
    exif.get_ifd(0x8825)[1] = "N"
    options = {"comment": b"my house"} if extension == "jpg" else {}
    return packed(picture(60, 40), FORMS[extension], exif=exif, icc_profile=profile, **options)


def stripped(payload: bytes, extension: str) -> bytes:
    result = strip_metadata(payload, extension, max_pixels=MAX_PIXELS)
    assert isinstance(result, bytes)
    return result


@pytest.mark.parametrize("extension", FORMS)
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("coloured", [False, True])
def test_what_an_image_tells_goes_and_how_it_looks_stays(extension: str, orientation: int, coloured: bool) -> None:
    payload = telling(extension, orientation, profile=wide_gamut() if coloured else None)
    assert b"my house" in payload
    bare = stripped(payload, extension)
    assert b"my house" not in bare
    assert decoded(bare).tobytes() == decoded(payload).tobytes()
    assert decoded(bare).size == decoded(payload).size
    assert stripped(bare, extension) == bare
    opened = Image.open(io.BytesIO(bare))
    assert opened.getexif().get(0x0112, 1) == orientation
    assert 0x8825 not in opened.getexif()
    assert ImageOps.exif_transpose(opened).size == decoded(payload).size


def test_what_follows_an_image_goes_too() -> None:
    for progressive in (False, True):
        payload = packed(picture(60, 40), progressive=progressive)
        assert stripped(payload + b"GPS" + payload, "jpg") == stripped(payload, "jpg")
    payload = packed(picture(60, 40), "PNG")
    assert stripped(payload + b"GPS", "png") == stripped(payload, "png")


def test_a_format_that_is_not_known_here_is_rejected_and_not_passed_on() -> None:
    result = StripMetadata()(Sample("a", {"gif": packed(picture(60, 40), "GIF")}))
    assert isinstance(result, Rejected)
    assert result.reason == "unsupported_format"
    bmp = packed(picture(60, 40), "BMP")
    assert StripMetadata()(Sample("a", {"bmp": bmp, "txt": b"x"})) == Sample("a", {"bmp": bmp, "txt": b"x"})


def kept(step: ImageStep, payload: bytes, extension: str) -> bool:
    """Whether the step keeps the image's compressed pixels."""
    result = step(Sample("a", {extension: payload}))
    assert isinstance(result, Sample), result
    assert b"my house" not in result.fields[step.format]
    return result.fields[step.format] == stripped(payload, extension)


def test_an_image_that_needs_no_change_keeps_its_compressed_pixels() -> None:
    payload = telling("jpg", 1)
    assert kept(ImageStep(), payload, "jpg")
    assert kept(ImageStep(), packed(picture(60, 40), progressive=True, quality=97), "jpg")
    assert kept(ImageStep(mode="short_side", size=50, only_if_larger=True), payload, "jpg")
    assert kept(ImageStep(mode="short_side", size=40), payload, "jpg")
    assert kept(ImageStep(mode="center_crop", size=40), packed(picture(40, 40)), "jpg")
    assert kept(ImageStep(format="png"), telling("png", 1), "png")
    assert kept(ImageStep(colour="grey"), packed(picture(60, 40).convert("L")), "jpg")


def test_an_image_that_needs_a_change_is_encoded() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert kept(ImageStep(), packed(picture(60, 40)), "jpg")
    without = ImageStep()(Sample("a", {"jpg": telling("jpg", 1, profile=srgb)}))
    assert isinstance(without, Sample)
    assert b"ICC_PROFILE" not in without.fields["jpg"]
    for step, payload, extension in (
        (ImageStep(reencode="always"), telling("jpg", 1), "jpg"),
        (ImageStep(), telling("jpg", 6), "jpg"),
        (ImageStep(), telling("jpg", 1, profile=wide_gamut()), "jpg"),
        (ImageStep(), packed(picture(60, 40).convert("L")), "jpg"),
        (ImageStep(colour="grey"), telling("jpg", 1), "jpg"),
        (ImageStep(mode="short_side", size=41), telling("jpg", 1), "jpg"),
        (ImageStep(mode="pad", size=60), telling("jpg", 1), "jpg"),
        (ImageStep(format="png"), packed(picture(60, 40).convert("RGBA"), "PNG"), "png"),
        (ImageStep(format="png"), packed(picture(60, 40).quantize(8), "PNG"), "png"),
        (ImageStep(colour="grey"), lossless_grey(60, 40), "jpg"),
    ):
        assert not kept(step, payload, extension), (step, extension)


def test_what_follows_a_picture_in_its_file_goes_with_the_metadata() -> None:
    second, film = packed(picture(40, 30, seed=1)), b"\0\0\0\x18ftypmp42" + bytes(400)
    out = io.BytesIO()
    picture(64, 48).save(out, "MPO", save_all=True, append_images=[picture(40, 30, seed=1)])
    for payload in (out.getvalue(), packed(picture(64, 48)) + second, packed(picture(64, 48)) + film):
        sample = StripMetadata()(Sample("a", {"jpg": payload}))
        assert isinstance(sample, Sample)
        stripped = sample.fields["jpg"]
        assert stripped.count(b"\xff\xd8\xff") == 1
        assert b"ftyp" not in stripped
        assert Image.open(io.BytesIO(stripped)).tobytes() == Image.open(io.BytesIO(payload)).tobytes()
