"""Frames of animations and pages of documents are counted, without decoding them."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from stoker.pipelines.images.containers.frames import MAX_FRAMES, frames_of
from tests.data import SHARED, needs_shared
from tests.pipelines.pictures import FORMATS, measured, packed, picture, pixels

SEVERAL = {"gif": "GIF", "webp": "WEBP", "png": "PNG", "tif": "TIFF"}
if features.check("avif"):
    SEVERAL["avif"] = "AVIF"


def animation(form: str, frames: int, **options: Any) -> bytes:
    pictures = [picture(40, 30, seed) for seed in range(frames)]
    return packed(pictures[0], form, save_all=True, append_images=pictures[1:], **options)


@pytest.mark.parametrize("extension", SEVERAL)
@pytest.mark.parametrize("frames", [2, 7])
def test_the_frames_of_every_format_are_counted(extension: str, frames: int) -> None:
    payload = animation(SEVERAL[extension], frames)
    assert frames_of(payload, extension) == frames
    assert measured(b"\r\n" + payload)["frames"] == frames


@pytest.mark.parametrize("extension", FORMATS)
def test_a_single_image_has_no_column_of_frames(extension: str) -> None:
    payload = packed(picture(40, 30), FORMATS[extension])
    assert frames_of(payload, extension) == 1
    assert "frames" not in measured(payload)


def test_a_file_of_several_pages_in_bigtiff_is_counted_and_a_loop_of_pages_ends() -> None:
    assert frames_of(animation("TIFF", 3, big_tiff=True), "tif") == 3
    payload = bytearray(packed(picture(40, 30), "TIFF"))
    (start,) = struct.unpack_from("<I", payload, 4)
    (entries,) = struct.unpack_from("<H", payload, start)
    struct.pack_into("<I", payload, start + 2 + 12 * entries, start)
    assert frames_of(bytes(payload), "tif") == 1


def test_thumbnails_and_masks_of_a_tiff_are_no_pages() -> None:
    payload = bytearray(packed(picture(40, 30), "TIFF", tiffinfo={254: 0}))
    start = len(payload) + len(payload) % 2
    (first,) = struct.unpack_from("<I", payload, 4)
    (entries,) = struct.unpack_from("<H", payload, first)
    struct.pack_into("<I", payload, first + 2 + 12 * entries, start)
    for subfile_type, pages in ((0, 2), (1, 1), (4, 1)):
        directory = struct.pack("<HHHIII", 1, 254, 4, 1, subfile_type, 0)
        assert frames_of(bytes(payload).ljust(start, b"\0") + directory, "tif") == pages


def test_the_still_image_before_an_animated_png_counts_only_as_a_frame_of_it() -> None:
    frames = [Image.fromarray(pixels(40, 30, seed)) for seed in range(3)]
    with_still = packed(frames[0], "PNG", save_all=True, append_images=frames, default_image=True)
    assert frames_of(with_still, "png") == 3
    assert frames_of(with_still.replace(b"acTL", b"acTl"), "png") == 1


def test_an_animation_that_was_cut_off_has_the_frames_that_are_there() -> None:
    payload = animation("GIF", 6)
    assert 1 < frames_of(payload[: len(payload) // 2], "gif") < 6


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SEVERAL)), st.data())
def test_no_damaged_file_raises(extension: str, data: st.DataObject) -> None:
    payload = bytearray(_ANIMATIONS[extension])
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    assert frames_of(bytes(payload[: data.draw(st.integers(0, len(payload)))]), extension) >= 1


_ANIMATIONS = {extension: animation(form, 3) for extension, form in SEVERAL.items()}


@needs_shared
@pytest.mark.parametrize(
    ("name", "frames"), [("pil_multipage.tiff", 3), ("pil_star.gif", 4), ("pil_iss634.gif", 42), ("pil_hopper.tif", 1)]
)
def test_real_files_have_the_frames_that_pillow_finds(name: str, frames: int) -> None:
    assert SHARED is not None
    path = SHARED / "photos" / name
    extension = {"tiff": "tif"}.get(path.suffix[1:], path.suffix[1:])
    with Image.open(path) as image:
        assert frames_of(path.read_bytes(), extension) == getattr(image, "n_frames", 1) == frames


@pytest.mark.skipif("avif" not in SEVERAL, reason="this Pillow was built without AVIF")
def test_a_count_of_frames_that_the_file_cannot_hold_is_not_believed() -> None:
    payload = bytearray(animation("AVIF", 3))
    start = payload.index(b"stsz") + 4
    struct.pack_into(">I", payload, start + 8, 0xFFFFFFFF)
    assert frames_of(bytes(payload), "avif") == 3
    struct.pack_into(">I", payload, start + 4, 9)  # frames of one size have no table
    assert frames_of(bytes(payload), "avif") == MAX_FRAMES
