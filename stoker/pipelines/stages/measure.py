"""Measures of every kept sample, whatever its source: columns of its Parquet record."""

import hashlib
from typing import Any

from stoker.pipelines.images.codec import field_of, measures_of_image
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.text.measures import measures_of_text
from stoker.storage.shards.sample import Sample

TEXT_FIELD = "txt"


def measure(sample: Sample) -> dict[str, Any] | Rejected:  # Any: Parquet scalars
    """The sample's measures, or why it is rejected: an image must decode, a text must be UTF-8.

    ``size`` is the bytes of all fields. ``content_sha256`` is the hash of the image, else of the text, else of all
    fields: equal values mean exact duplicates.
    """
    measures: dict[str, Any] = {"size": sum(len(payload) for payload in sample.fields.values())}
    image = field_of(sample)
    if image is not None:
        image_measures = measures_of_image(sample.fields[image])
        if isinstance(image_measures, Rejected):
            return image_measures
        measures |= image_measures
    elif TEXT_FIELD in sample.fields:
        try:
            text = sample.fields[TEXT_FIELD].decode("utf-8")
        except UnicodeDecodeError as error:
            return Rejected("not_utf8", f"byte {error.start}")
        measures |= measures_of_text(text)
    measures["content_sha256"] = hash_of_content(sample)
    return measures


def hash_of_content(sample: Sample) -> str:
    """The SHA-256 of the sample's image, else of its text, else of all fields: equal ones are exact duplicates."""
    field = field_of(sample) or TEXT_FIELD
    if field in sample.fields:
        return hashlib.sha256(sample.fields[field]).hexdigest()
    hasher = hashlib.sha256()
    for extension, payload in sorted(sample.fields.items()):
        hasher.update(f"{extension} {len(payload)}\n".encode() + payload)
    return hasher.hexdigest()
