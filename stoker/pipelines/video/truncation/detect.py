"""How a video file shows that it was cut off: by the sizes that its container announces against its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from stoker.pipelines.video.transport_stream import describe_cut
from stoker.pipelines.video.truncation import elements, endings
from stoker.storage.plain_file import open_plain

_CHECKS: dict[str, Callable[[BinaryIO, int], str]] = {
    "mov": elements.check_mov,
    "avi": elements.check_riff,
    "webp": elements.check_webp,
    "matroska": elements.check_matroska,
    "flv": elements.check_flv,
    "asf": elements.check_asf,
    "ogg": endings.check_ogg,
    "gif": elements.check_gif,
    "mxf": endings.check_mxf,
    "mpegts": describe_cut,
    "mpeg": endings.check_mpeg,
    "apng": elements.check_apng,
    "mjpeg": endings.check_mjpeg,
    "ivf": elements.check_ivf,
    "nut": endings.check_nut,
    "dv": endings.check_dv,
    "yuv4mpegpipe": endings.check_y4m,
}


def describe_truncation(path: Path, demuxer: str) -> str:
    """How the file shows that it was cut off, such as "20 bytes of 50"; "" if it shows nothing."""
    check = _CHECKS.get(demuxer)
    if check is None:
        return ""
    with open_plain(path) as file:
        return check(file, os.fstat(file.fileno()).st_size)
