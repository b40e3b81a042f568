"""Texts without e-mail addresses."""

import re
from dataclasses import dataclass, replace

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample

# Each part has a limit, so that no text takes more than linear time; longer addresses do not exist (RFC 5321).
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}(?![\w-])")


@dataclass(frozen=True)
class TextRedact(Step):
    """Put ``replacement`` in place of every e-mail address in a text; the record counts them as ``addresses``.

    Example::

        [[steps]]
        name = "text_redact"
        replacement = "<address>"
    """

    replacement: str = "<address>"

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        if "txt" not in sample.fields:
            return sample
        try:
            text = sample.fields["txt"].decode("utf-8")
        except UnicodeDecodeError as error:
            return Rejected("not_utf8", f"byte {error.start}")
        # A function, as a backslash in the replacement would otherwise be an escape.
        text, addresses = _ADDRESS.subn(lambda _: self.replacement, text)
        fields = dict(sample.fields) | {"txt": text.encode("utf-8")}
        return replace(sample, fields=fields, record=dict(sample.record) | {"addresses": addresses})
