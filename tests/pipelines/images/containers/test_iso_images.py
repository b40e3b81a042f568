"""Crops of AVIF files (clean apertures), also of turned and animated ones."""

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from stoker.pipelines.images.codec import ImageHeader, decode, header_of
from stoker.pipelines.images.containers.iso_images import clean_aperture, count_images
from stoker.pipelines.rejected import Rejected
from tests.pipelines.pictures import decoded, measured, packed, picture, reject_reason

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
WIDTH, HEIGHT = 64, 48


def avif(orientation: int = 1, frames: int = 1) -> bytes:
    """A file that says its orientation by its own properties (irot, imir)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = [picture(WIDTH, HEIGHT, seed) for seed in range(1, frames)]
    several = {"save_all": True, "append_images": more} if more else {}
    return packed(picture(WIDTH, HEIGHT), "AVIF", quality=100, subsampling="4:4:4", exif=exif, **several)


def clap(left: int, top: int, width: int, height: int) -> bytes:
    """The property: width, height and the offsets of its centre from the image's, as fractions."""
    right, down = 2 * left + width - WIDTH, 2 * top + height - HEIGHT
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 2, down, 2))


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def with_clap(payload: bytes, aperture: bytes) -> bytes:
    """The file with the property given to its primary item, before those that turn it, or to its first track."""
    if payload[8:12] == b"avis":
        return _with_inserted(payload, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"av01"), aperture)
    longer = _with_inserted(payload, (b"meta", b"iprp", b"ipco"), aperture)
    ipco = longer.index(b"ipco") - 4
    offset, number = ipco + 8, 0
    while offset < ipco + struct.unpack_from(">I", longer, ipco)[0]:
        offset += struct.unpack_from(">I", longer, offset)[0]
        number += 1
    ipma = longer.index(b"ipma") - 4
    count = ipma + 18  # after size, name, version and flags, entries and the first item's identifier
    associations = longer[count + 1 : count + 1 + longer[count]]
    properties = [kind for kind in associations if kind & 0x7F not in _turns(longer, ipco)]
    turns = [kind for kind in associations if kind not in properties]
    new = bytes((longer[count] + 1, *properties, 0x80 | number, *turns))
    return _grown(longer, (b"meta", b"iprp", b"ipma"), count, count + 1 + longer[count], new)


def _turns(payload: bytes, ipco: int) -> set[int]:
    offset, number, turns = ipco + 8, 0, set()
    while offset < ipco + struct.unpack_from(">I", payload, ipco)[0]:
        number += 1
        if payload[offset + 4 : offset + 8] in (b"irot", b"imir"):
            turns.add(number)
        offset += struct.unpack_from(">I", payload, offset)[0]
    return turns


def _with_inserted(payload: bytes, path: tuple[bytes, ...], content: bytes) -> bytes:
    start = _place(payload, path)
    stop = start + struct.unpack_from(">I", payload, start)[0]
    return _grown(payload, path, stop, stop, content)


def _place(payload: bytes, path: tuple[bytes, ...]) -> int:
    place = 0
    for name in path:
        place = payload.index(name, place) - 4
    return place


def _grown(payload: bytes, path: tuple[bytes, ...], start: int, stop: int, content: bytes) -> bytes:
    """The file with other bytes from start to stop, and all sizes and offsets right again."""
    by = len(content) - (stop - start)
    grown = bytearray(payload)
    for depth in range(1, len(path) + 1):
        place = _place(payload, path[:depth])
        struct.pack_into(">I", grown, place, struct.unpack_from(">I", payload, place)[0] + by)
    for place in _offsets(payload):
        struct.pack_into(">I", grown, place, struct.unpack_from(">I", payload, place)[0] + by)
    return bytes(grown[:start]) + content + bytes(grown[stop:])


def _offsets(payload: bytes) -> Iterator[int]:
    """Where the file says at which of its bytes data lie: in iloc (of libavif: 32 bits) and stco."""
    data = payload.index(b"mdat")
    place = payload.index(b"iloc") + 10
    assert payload[place - 2] == 0x44
    (items,) = struct.unpack_from(">H", payload, place)
    place += 2
    for _ in range(items):
        (extents,) = struct.unpack_from(">H", payload, place + 4)
        yield from range(place + 6, place + 6 + 8 * extents, 8)
        place += 6 + 8 * extents
    table = payload.find(b"stco", 0, data)
    while table >= 0:
        (chunks,) = struct.unpack_from(">I", payload, table + 8)
        yield from range(table + 12, table + 12 + 4 * chunks, 4)
        table = payload.find(b"stco", table + 4, data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", [(0, 0, 40, 30), (8, 6, 33, 21), (63, 47, 1, 1), (0, 0, 64, 47)])
def test_the_clean_aperture_is_cut_out_before_the_image_is_turned(
    orientation: int, crop: tuple[int, int, int, int]
) -> None:
    payload = avif(orientation)
    left, top, width, height = crop
    cropped = with_clap(payload, clap(*crop))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(WIDTH, HEIGHT).crop((left, top, left + width, top + height))
    stored.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(stored)
    image = decoded(cropped)
    assert image.size == expected.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 4
    header = header_of(cropped)
    assert isinstance(header, ImageHeader)
    assert (header.width, header.height) == (width, height)
    measures = measured(cropped)
    assert (measures["width"], measures["height"]) == expected.size


def test_of_an_animation_the_first_frame_is_cropped_as_its_track_says() -> None:
    payload = with_clap(avif(frames=3), clap(8, 6, 33, 21))
    assert decoded(payload).size == (33, 21)
    assert measured(payload)["frames"] == 3


def test_a_crop_of_the_whole_image_changes_nothing() -> None:
    assert decoded(with_clap(avif(6), clap(0, 0, WIDTH, HEIGHT))).tobytes() == decoded(avif(6)).tobytes()


@pytest.mark.parametrize(
    "aperture",
    [
        clap(40, 0, 30, 20),
        clap(-1, 0, 30, 20),
        clap(0, 0, 0, 20),
        box(b"clap", struct.pack(">IIIIiIiI", 31, 1, 20, 1, 0, 1, 0, 1)),  # half a pixel to the side
        box(b"clap", struct.pack(">IIIIiIiI", 32, 0, 20, 1, 0, 1, 0, 1)),
        box(b"clap", b"\0" * 8),
    ],
)
def test_a_clean_aperture_that_is_no_part_of_the_image_is_a_reject(aperture: bytes) -> None:
    assert reject_reason(with_clap(avif(), aperture)) == "corrupt"


_CROPPED = (with_clap(avif(6), clap(8, 6, 33, 21)), with_clap(avif(frames=2), clap(8, 6, 33, 21)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_CROPPED), st.data())
def test_no_damaged_boxes_raise(intact: bytes, data: st.DataObject) -> None:
    payload = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, min(len(payload), 1200) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    crop = clean_aperture(damaged, WIDTH, HEIGHT)
    if isinstance(crop, tuple):
        assert 0 <= crop[0] < crop[2] <= WIDTH
        assert 0 <= crop[1] < crop[3] <= HEIGHT
    else:
        assert crop is None or isinstance(crop, Rejected)
    assert count_images(damaged) >= 0
    assert not isinstance(decode(damaged), bytes)
