"""What a packet's own headers say: whether decoding can begin at it, and whether no other picture references it.

Containers flag key frames, but also recovery points from which a picture is only whole some frames later, and few flag
pictures without references to them. Codecs whose headers are not read here go by the container's flag.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Codecs whose decoders can begin at any key frame. With others (GIF) the container may flag every frame as a key.
SEEKABLE_CODECS = frozenset(
    ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "theora")
)
_ZEROS = bytes(8)  # as many are no code, but may fill the room before a start code
_HOLE = re.compile(rb"\0{8}\0*[^\0\1]")
_MAX_UNITS = 100_000  # NAL units of a packet

Packet = Any  # av.Packet: PyAV is untyped to us


class Coding(NamedTuple):
    """What one packet holds.

    ``restarts``: later pictures, in order of presentation, decode without earlier packets.
    ``leading``: the picture may be left out after a restart, if it is shown before the picture of the restart.
    ``disposable``: no other picture references it, but for those of a higher temporal ``layer``.
    ``sound``: it has none of the marks of damage that can be seen without decoding.
    ``parameters``: the sequence's and pictures' parameter sets in it, which later packets may need.
    ``forgets``: the decoder forgets all earlier pictures at it (H.264's IDR pictures).
    """

    restarts: bool = False
    leading: bool = False
    disposable: bool = False
    layer: int = 0
    sound: bool = True
    parameters: tuple[bytes, ...] = ()
    forgets: bool = False


def coding_reader(codec: str, extradata: bytes) -> Callable[[Packet], Coding] | None:
    """What reads a codec's packets; None for codecs whose headers are not read here."""
    if codec in ("h264", "hevc"):
        # Source: FFmpeg, libavcodec/hevc/parse.c and h264_parse.c: old hvcC boxes begin with another byte than 1.
        is_prefixed = extradata[:1] == b"\1" if codec == "h264" else any(extradata[:2]) or extradata[2:3] > b"\1"
        place = 4 if codec == "h264" else 21
        length = (extradata[place] & 3) + 1 if is_prefixed and len(extradata) > place else 0
        read = _h264 if codec == "h264" else _hevc
        return lambda packet: read(_units(bytes(packet), length), packet.is_keyframe)
    if codec in ("mpeg1video", "mpeg2video"):
        return lambda packet: _mpeg2(bytes(packet))
    if codec == "mpeg4":
        return lambda packet: _mpeg4(bytes(packet))
    return None


def _units(data: bytes, length: int) -> Iterator[bytes]:
    """The NAL units of a packet: behind their lengths, of ``length`` bytes each, or (0) between start codes."""
    if length:
        offset = 0
        for _ in range(_MAX_UNITS):
            begin = offset + length
            if begin >= len(data):
                return
            offset = begin + int.from_bytes(data[offset:begin], "big")
            yield data[begin:offset] if offset <= len(data) else b""
        return
    begin = data.find(b"\0\0\1")
    while begin >= 0:
        end = data.find(b"\0\0\1", begin + 3)
        yield data[begin + 3 : end if end >= 0 else len(data)]
        begin = end


def _is_sound(unit: bytes) -> bool:
    """Whether a NAL unit's first bit and its codes are possible ones."""
    if not unit or unit[0] > 127:
        return False
    if b"\0\0" not in unit:
        return True
    unit = unit.rstrip(b"\0")
    return bool(unit) and b"\0\0\0" not in unit and b"\0\0\1" not in unit and b"\0\0\2" not in unit


def _h264(units: Iterator[bytes], is_key: bool) -> Coding:
    """Source: ITU-T H.264, 7.3.1 and 7.4.1 (NAL units), D.1.8 and D.2.8 (recovery points)."""
    types, references, recovers, sound, parameters = [], 0, False, True, []
    for unit in units:
        if not _is_sound(unit):
            sound = False
            continue
        kind = unit[0] & 31
        if 1 <= kind <= 5:
            types.append(kind)
            references |= unit[0] >> 5 & 3
        elif kind == 6 and not types:
            recovers = recovers or _recovers_at_once(unit)
        elif kind in (7, 8):
            parameters.append(unit)
    if not types:
        return Coding(sound=False, parameters=tuple(parameters))
    restarts = is_key and (types[0] == 5 or recovers)
    return Coding(restarts, not restarts, references == 0, 0, sound, tuple(parameters), restarts and types[0] == 5)


def _recovers_at_once(unit: bytes) -> bool:
    """Whether a unit of supplemental information says that pictures are exact from this one on."""
    data, offset = unit.replace(b"\0\0\3", b"\0\0"), 1
    while offset + 2 < len(data):
        numbers = []
        for _ in range(2):  # kind and size, each in bytes of 255 and a last one
            number = 0
            while offset < len(data) and data[offset] == 255:
                number, offset = number + 255, offset + 1
            numbers.append(number + (data[offset] if offset < len(data) else 0))
            offset += 1
        if numbers[0] == 6:
            # recovery_frame_cnt as an Exp-Golomb code, 0 is the bit 1; then exact_match_flag
            return offset < len(data) and data[offset] & 0xC0 == 0xC0
        offset += numbers[1]
    return False


def _hevc(units: Iterator[bytes], is_key: bool) -> Coding:
    """Source: ITU-T H.265, 7.4.2.2 (table 7-1) and 3.148 (sub-layer non-reference pictures)."""
    types, layers, parameters, sound = [], [], [], True
    for unit in units:
        if len(unit) < 2 or not _is_sound(unit):
            sound = False
            continue
        if (unit[0] & 1) << 5 | unit[1] >> 3:
            continue  # of another layer: FFmpeg decodes the base layer
        kind = unit[0] >> 1 & 63
        if kind < 32:
            types.append(kind)
            layers.append(unit[1] & 7)
        elif kind <= 34:
            parameters.append(unit)
    if not types:
        return Coding(sound=False, parameters=tuple(parameters))
    return Coding(
        restarts=16 <= types[0] <= 21,
        leading=all(6 <= kind <= 9 for kind in types),
        disposable=all(kind < 16 and kind % 2 == 0 for kind in types),
        layer=max(layers),
        sound=sound,
        parameters=tuple(parameters),
    )


def _has_no_hole(data: bytes) -> bool:
    return _ZEROS not in data or _HOLE.search(data) is None


def _mpeg2(data: bytes) -> Coding:
    """Source: ITU-T H.262, 6.2.3: a picture's header; one of type 3 (B) is referenced by none."""
    types = []
    begin = data.find(b"\0\0\1\0")
    while 0 <= begin < len(data) - 5:
        types.append(data[begin + 5] >> 3 & 7)
        begin = data.find(b"\0\0\1\0", begin + 4)
    is_b = bool(types) and all(kind == 3 for kind in types)
    return Coding(types[:1] == [1] and b"\0\0\1\xb3" in data, is_b, is_b, sound=bool(types) and _has_no_hole(data))


def _mpeg4(data: bytes) -> Coding:
    """Source: ISO/IEC 14496-2, 6.2.5: a picture's header. Some files pack two into one packet: those are needed."""
    begin = data.find(b"\0\0\1\xb6")
    if not 0 <= begin < len(data) - 4:
        return Coding(sound=False)
    is_packed = data.find(b"\0\0\1\xb6", begin + 4) >= 0
    kind = data[begin + 4] >> 6
    return Coding(
        kind == 0 and not is_packed, kind == 2 and not is_packed, kind == 2 and not is_packed and _ZEROS not in data
    )
