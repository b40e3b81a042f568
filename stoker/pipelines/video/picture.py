"""Conversion of decoded video frames to upright RGB images with square pixels."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.hdr import HLG, PQ, is_hdr, tone_map

_HD = 720  # lines: players take video of this size that names no colour space for BT.709
_BT709 = 1  # FFmpeg's numbers of colour spaces
_UNSPECIFIED = 2
_STORED_BITS = 8  # of a colour of a stored picture
# Names of ITU-T H.273's numbers, as FFmpeg spells them; those of unspecified and reserved ones are absent.
TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    PQ: "smpte2084",
    17: "smpte428",
    HLG: "arib-std-b67",
}
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
_RANGES = {1: "tv", 2: "pc"}
_MATRIX_SIZE = 36  # bytes of a display matrix: 3x3 32-bit numbers

Frame = Any  # av.VideoFrame: PyAV is untyped to us
Hdr = Literal["tonemap", "reject", "raw"]


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """How frames become pictures.

    Args:
        hdr: what happens to frames in PQ or HLG: mapped to SDR, rejected, or their codes taken as if they were SDR.
        deinterlace: interlaced frames are made of one of their two fields, so that moving edges are no combs.
    """

    hdr: Hdr = "tonemap"
    deinterlace: bool = False


def frame_to_image(frame: Frame, aspect: Fraction | None, options: PictureOptions) -> Image.Image | Rejected:
    """The frame as players show it, transparency on white. ``aspect``: a pixel's width over its height."""
    if options.deinterlace and frame.interlaced_frame:
        frame = _deinterlace(frame)
    if is_hdr(frame) and options.hdr == "reject":
        return Rejected("hdr", f"its transfer is {TRANSFERS[frame.color_trc]}")
    image = Image.fromarray(tone_map(frame)) if is_hdr(frame) and options.hdr == "tonemap" else _to_rgb(frame)
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        image = image.resize((max(1, round(image.width * aspect)), image.height), Image.Resampling.BICUBIC)
    transpose = _transpose_of(_display_matrix(frame))
    return image.transpose(transpose) if transpose is not None else image


def describe_frame(frame: Frame, options: PictureOptions) -> dict[str, Any]:  # Any: JSON
    """What a record says about the frame in the file: its colours where they are named, its depth above 8 bits."""
    names = {
        "transfer": TRANSFERS.get(frame.color_trc),
        "primaries": _PRIMARIES.get(frame.color_primaries),
        "matrix": _MATRICES.get(frame.colorspace),
        "range": _RANGES.get(frame.color_range),
    }
    described: dict[str, Any] = {name: text for name, text in names.items() if text}  # Any: JSON
    depth = max((component.bits for component in frame.format.components), default=8)
    if depth > _STORED_BITS:
        described["bit_depth"] = depth
    if is_hdr(frame):
        described["hdr"] = options.hdr
    if frame.interlaced_frame:
        described["interlaced"] = True
    return described


def _deinterlace(frame: Frame) -> Frame:
    """The frame with the lines of one field made anew from those of the other, by FFmpeg's filter yadif."""
    from av.filter import Graph

    graph = Graph()
    time_base = frame.time_base or Fraction(1, 1000)
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=time_base)
    yadif, sink = graph.add("yadif", "mode=send_frame:deint=all"), graph.add("buffersink")
    source.link_to(yadif)
    yadif.link_to(sink)
    graph.configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()


def _to_rgb(frame: Frame) -> Image.Image:
    colour_space = _BT709 if frame.colorspace == _UNSPECIFIED and frame.height >= _HD else None
    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixel_format = "rgba" if has_alpha else "rgb24"
    image = Image.fromarray(frame.reformat(format=pixel_format, src_colorspace=colour_space).to_ndarray())
    if has_alpha:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white.convert("RGB")
    return image


def _display_matrix(frame: Frame) -> tuple[int, int, int, int]:
    """The matrix (a, b, c, d) by which players move pixels: x' = a x + c y, y' = b x + d y, with y downward.

    Source: FFmpeg, libavutil/display.h; the same as in the track header of ISO/IEC 14496-12.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    payload = b"" if side_data is None else bytes(side_data)
    if len(payload) != _MATRIX_SIZE:
        return (1, 0, 0, 1)
    numbers = struct.unpack("=9i", payload)
    return numbers[0], numbers[1], numbers[3], numbers[4]


def _transpose_of(matrix: tuple[int, int, int, int]) -> Image.Transpose | None:
    """The nearest of the eight ways to turn and mirror an image; None for none.

    >>> _transpose_of((-1, 0, 0, 1))
    <Transpose.FLIP_LEFT_RIGHT: 0>
    >>> _transpose_of((0, 1, -1, 0))  # a quarter clockwise
    <Transpose.ROTATE_270: 4>
    """
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _STRAIGHT[a < 0, d < 0]
    return _CROSSED[b < 0, c < 0]


# By whether the matrix's numbers are negative: (a, d) where x stays x, (b, c) where x becomes y.
_STRAIGHT = {
    (False, False): None,
    (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (True, True): Image.Transpose.ROTATE_180,
}
_CROSSED = {
    (False, False): Image.Transpose.TRANSPOSE,
    (False, True): Image.Transpose.ROTATE_270,
    (True, False): Image.Transpose.ROTATE_90,
    (True, True): Image.Transpose.TRANSVERSE,
}
