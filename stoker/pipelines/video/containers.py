"""Detection of video containers by what files begin with, or by FFmpeg's own probe behind a list of allowed demuxers.

FFmpeg never opens a file with a demuxer that is not on the list: it knows formats (playlists, scripts, numbered images)
that make it open other files and URLs.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.transport_stream import find_packets, read_head
from stoker.storage.errors import StokerError
from stoker.storage.plain_file import open_plain

WEBP = "webp"  # animated: no demuxer of FFmpeg's, Pillow reads it
_ALLOWED = (
    "mov,matroska,ogg,flv,live_flv,mpeg,mpegts,asf,mxf,gxf,yuv4mpegpipe,gif,apng,avi,nut,ivf,obu,av1,dv,"
    "h261,h263,h264,hevc,vvc,m4v,mpegvideo,mjpeg,vc1"
)
_PROBE_SIZE = 5_000_000  # bytes; FFmpeg's default, here so that a file cannot ask for more
# What FFmpeg is asked for whenever it opens a file of a stranger.
SAFE_OPTIONS = {
    "format_whitelist": _ALLOWED,
    "protocol_whitelist": "file",
    "probesize": str(_PROBE_SIZE),
    "formatprobesize": str(1 << 20),
}
# FFmpeg's demuxers by what files begin with, as (offset, bytes, demuxer).
_MAGIC = (
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"OggS", "ogg"),
    (0, b"FLV\x01", "flv"),
    (0, b"\0\0\x01\xba", "mpeg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    (0, b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof", b"sidx", b"uuid")
_SEQUENCES = (b"avis", b"msf1", b"hevc", b"hevx")  # brands of AVIF and HEIF files that hold a sequence of images
_UNSUPPORTED = (
    (b".RMF", "RealMedia"),
    (b"\xb7\xd8\x00\x20", "Windows TV"),
    (b"FWS", "Flash"),
    (b"CWS", "Flash"),
    (b"ZWS", "Flash"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<?xml", "XML, maybe a playlist"),
)


def check_library() -> None:
    """Raise StokerError if PyAV is not installed. Does not import it."""
    if find_spec("av") is None:
        raise StokerError('videos need PyAV, which is not installed: pip install "stoker[video]"')


def import_av() -> Any:  # Any: PyAV is untyped to us
    """PyAV, so that recipes can be parsed without it. Raises StokerError if it is not installed."""
    check_library()
    import av

    return av


def demuxer_of(path: Path, av: Any) -> str | Rejected:  # Any: PyAV is untyped to us
    """FFmpeg's name for the container, or ``empty``, ``not_a_video`` or ``unsupported_format``."""
    with open_plain(path) as file:
        head = file.read(4096)
    if not head:
        return Rejected("empty")
    demuxer = next((name for offset, magic, name in _MAGIC if head.startswith(magic, offset)), None)
    if demuxer is not None:
        return demuxer
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    image = extension_of(head)
    if not isinstance(image, Rejected) or "HEI" in image.detail:
        return _animation(path, head, av) or Rejected("not_a_video", "a still image")
    if head[4:8] in _BOXES:
        return "mov"
    unsupported = next((name for magic, name in _UNSUPPORTED if head.startswith(magic)), None)
    if unsupported is not None:
        return Rejected("unsupported_format", unsupported)
    with open_plain(path) as file:
        if find_packets(read_head(file)) is not None:
            return "mpegts"
    return _probe(path, av) or Rejected("not_a_video", describe_head(path))


def is_probed(demuxer: str) -> bool:
    """Whether files of this kind are recognised by FFmpeg's probe alone, which may be wrong."""
    return demuxer not in {name for _, _, name in _MAGIC} | {"avi", "mov", "mpegts", "apng", WEBP}


def describe_head(path: Path) -> str:
    """What the file begins with, for people."""
    with open_plain(path) as file:
        return f"it begins {file.read(8)!r}"


def _animation(path: Path, head: bytes, av: Any) -> str | None:  # Any: as above
    """The demuxer of an image file that holds several images, shown one after the other; None if it holds one."""
    if head[4:8] == b"ftyp":
        brands = head[8 : min(len(head), int.from_bytes(head[:4], "big"))]
        return (
            "mov"
            if any(brand in _SEQUENCES for brand in (brands[i : i + 4] for i in range(0, len(brands), 4)))
            else None
        )
    if head.startswith(b"\x89PNG"):
        control, data = head.find(b"acTL"), head.find(b"IDAT")
        return "apng" if control >= 0 and (data < 0 or control < data) else None
    if head.startswith(b"RIFF") and head[12:16] == b"VP8X":
        return WEBP if head[20] & 2 else None
    return _probe(path, av) if head.startswith(b"\xff\xd8") else None  # JPEGs without a container, one after the other


def _probe(path: Path, av: Any) -> str | None:  # Any: as above
    """The demuxer that FFmpeg recognises the file by, None if that is none of the allowed ones."""
    try:
        with av.open(f"file:{path.resolve()}", options=SAFE_OPTIONS, metadata_errors="replace") as container:
            return str(container.format.name).split(",")[0]
    except (av.FFmpegError, ValueError):
        return None
