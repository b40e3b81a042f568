"""Pictures for the web page: decoded within limits and encoded again, so that no untrusted bytes reach a browser."""

from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from stoker.flows.report.cache import LruCache
from stoker.flows.report.refusals import raw_member
from stoker.flows.report.samples import NO_PROOF, Proof, SampleEntry, SampleReader
from stoker.pipelines.images.codec import decode, encode
from stoker.pipelines.images.formats import EXTENSIONS
from stoker.pipelines.rejected import Rejected
from stoker.storage.errors import NotFound
from stoker.storage.shards.shard import Member
from stoker.storage.versions.manifest import Manifest

THUMB, LARGE = 256, 1280  # pixels of the longer side
TINY = 96  # pixels: smaller pictures are sent as PNG, and shown with their pixels visible
_MAX_SIZE = 64 * 2**20  # bytes of an image that is read
_MAX_PIXELS = 1 << 26
_CACHE_SIZE = 48 * 2**20  # bytes of encoded pictures
_DECODERS = 2  # at once: many requests wait instead of filling the memory


class ImageRenderer:
    """Decodes and shrinks the pictures of samples, and caches the results. Safe to use from many threads."""

    def __init__(self, reader: SampleReader) -> None:
        self._reader = reader
        self._cache: LruCache[bytes] = LruCache(_CACHE_SIZE, len)
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="pictures")

    def sample_picture(self, manifest: Manifest, entry: SampleEntry, side: int) -> bytes:
        """A sample's picture as WebP, its longer side at most ``side``. Raises NotFound if it has none."""
        member = entry.member(*EXTENSIONS)
        if member is None:
            raise NotFound(f"{manifest.reference}: sample {entry.key} has no picture")
        shard = manifest.shards[entry.shard]
        key = (shard.sha256, member.offset, side)
        return self._cache.get(
            key, lambda: self._render(shard.key, member, side, manifest, entry.proof(member, manifest))
        )

    def raw_picture(self, manifest: Manifest, part: str, key: str, side: int) -> bytes:
        """The same for a sample in a raw part, also for one that a rule dropped."""
        raw_part, member, sha256 = raw_member(self._reader, manifest, part, key, *EXTENSIONS)
        return self._cache.get(
            (raw_part.tar_sha256, member.offset, side),
            lambda: self._render(raw_part.tar, member, side, proof=Proof(sha256)),
        )

    def _render(
        self, tar: str, member: Member, side: int, of: Manifest | None = None, proof: Proof = NO_PROOF
    ) -> bytes:
        if member.size > _MAX_SIZE:
            raise NotFound(f"{tar}: a picture of {member.size} bytes, more than is shown")
        payload = self._reader.read(tar, member, most=_MAX_SIZE, of=of, proof=proof)
        return self._decoders.submit(shrink, payload, side, tar).result()


def shrink(payload: bytes, side: int, tar: str) -> bytes:
    """A picture as WebP or PNG, its longer side at most ``side``; ``tar``: where it is from. Raises NotFound."""
    picture = decode(payload, colour="rgb", at_least=side, max_pixels=_MAX_PIXELS)
    if isinstance(picture, Rejected):
        raise NotFound(f"{tar}: a picture that does not decode: {picture.reason}")
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    if max(picture.size) <= TINY:
        return encode(picture, "png")
    return encode(picture, "webp", quality=82)
