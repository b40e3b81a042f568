"""What is measured of every kept sample, whatever its source: written as columns of the Parquet record."""

import hashlib
from typing import Any

from stoker.pipelines.images.codec import field_of, measures_of_image
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.text.measures import measures_of_text
from stoker.storage.shards.sample import Sample

TEXT_FIELD = "txt"


def measure(sample: Sample) -> dict[str, Any] | Rejected:  # Any: Parquet scalars
    """The sample's measures, or why it must not be kept: a kept image decodes, a kept text is UTF-8.

    ``size`` is the bytes of all fields; ``content_sha256`` stands for what is learned from (the image or text;
    all fields where there is neither), so that equal values mean exact duplicates.
    """
    found: dict[str, Any] = {"size": sum(len(payload) for payload in sample.fields.values())}
    image = field_of(sample)
    if image is not None:
        seen = measures_of_image(sample.fields[image])
        if isinstance(seen, Rejected):
            return seen
        found |= seen
        found["content_sha256"] = hashlib.sha256(sample.fields[image]).hexdigest()
    elif TEXT_FIELD in sample.fields:
        try:
            text = sample.fields[TEXT_FIELD].decode("utf-8")
        except UnicodeDecodeError as error:
            return Rejected("not_utf8", f"byte {error.start}")
        found |= measures_of_text(text)
        found["content_sha256"] = hashlib.sha256(sample.fields[TEXT_FIELD]).hexdigest()
    else:
        whole = hashlib.sha256()
        for extension, payload in sorted(sample.fields.items()):
            whole.update(f"{extension} {len(payload)}\n".encode() + payload)
        found["content_sha256"] = whole.hexdigest()
    return found
