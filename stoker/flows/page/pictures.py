"""Pictures for the web page: decoded within limits and encoded again, so that no untrusted bytes reach a browser."""

from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from stoker.flows.report.cache import LruCache
from stoker.flows.report.refusals import raw_member
from stoker.flows.report.samples import SampleEntry, SampleReader
from stoker.pipelines.images.codec import decode, encode
from stoker.pipelines.images.formats import EXTENSIONS
from stoker.pipelines.rejected import Rejected
from stoker.storage.errors import NotFound
from stoker.storage.shards.shard import Member
from stoker.storage.versions.manifest import Manifest

THUMB, LARGE = 256, 1280  # pixels of the longer side
TINY = 96  # pixels: smaller pictures are sent as they are, and shown with their pixels visible
_LARGEST = 64 * 2**20  # bytes of an image that is read
_MOST_PIXELS = 1 << 26
_HELD = 48 * 2**20  # bytes of pictures that are held
_AT_ONCE = 2  # decoders: a flood of requests waits instead of filling the memory


class ImageRenderer:
    """Thumbnails and large pictures of samples, the latest ones held. Safe to use from many threads."""

    def __init__(self, reader: SampleReader) -> None:
        self._reader = reader
        self._made: LruCache[bytes] = LruCache(_HELD, len)
        self._decoders = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pictures")

    def of_sample(self, manifest: Manifest, entry: SampleEntry, side: int) -> bytes:
        """A sample's picture as WebP, its longer side at most ``side``. Raises NotFound if it has none."""
        member = entry.member(*EXTENSIONS)
        if member is None:
            raise NotFound(f"{manifest.reference}: sample {entry.key} has no picture")
        shard = manifest.shards[entry.shard]
        key = (shard.sha256, member.offset, side)
        return self._made.get(key, lambda: self._make(shard.key, member, side, manifest))

    def of_raw(self, manifest: Manifest, part: str, key: str, side: int) -> bytes:
        """The same for a sample as a raw part holds it, also for one that a rule left out."""
        found, member = raw_member(self._reader, manifest, part, key, *EXTENSIONS)
        return self._made.get((found.tar_sha256, member.offset, side), lambda: self._make(found.tar, member, side))

    def _make(self, tar: str, member: Member, side: int, of: Manifest | None = None) -> bytes:
        if member.size > _LARGEST:
            raise NotFound(f"{tar}: a picture of {member.size} bytes, more than is shown")
        payload = self._reader.read(tar, member, most=_LARGEST, of=of)
        return self._decoders.submit(_shrunk, payload, side, tar).result()


def _shrunk(payload: bytes, side: int, tar: str) -> bytes:
    picture = decode(payload, colour="rgb", at_least=side, max_pixels=_MOST_PIXELS)
    if isinstance(picture, Rejected):
        raise NotFound(f"{tar}: a picture that does not decode: {picture.reason}")
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    if max(picture.size) <= TINY:
        return encode(picture, "png")
    return encode(picture, "webp", quality=82)
