"""Remove the metadata of images, and keep their compressed pixels."""

from dataclasses import dataclass, replace

from stoker.pipelines.images.codec import MAX_PIXELS, field_of
from stoker.pipelines.images.containers.metadata import strip_metadata
from stoker.pipelines.images.formats import extension_of, without_junk
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True)
class StripMetadata(Step):
    """Remove EXIF (places, cameras, thumbnails), XMP, comments and texts of JPEG, PNG and WebP images.

    Nothing is decoded or encoded: pixels stay bit for bit. Orientation and colour profile stay, because pixels are not
    shown right without them. Other formats but BMP are rejected (``unsupported_format``): step ``image`` takes them.
    What follows the image in its file goes, too, as it may tell more than is shown: second pictures of a JPEG (MPO: the
    other eye, larger previews, depth and gain maps), the film of a motion photo, anything appended. All frames of an
    animated PNG or WebP stay.

    Example::

        [[steps]]
        name = "strip_metadata"
    """

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to images."""
        return field_of(sample) is not None

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        field = field_of(sample)
        if field is None:
            return sample
        payload = without_junk(sample.fields[field])
        extension = extension_of(payload)
        if isinstance(extension, Rejected):
            return extension
        stripped = strip_metadata(payload, extension, max_pixels=MAX_PIXELS)
        if isinstance(stripped, Rejected):
            return stripped
        return replace(sample, fields=dict(sample.fields) | {field: stripped})
