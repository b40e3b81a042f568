"""Tars as other tools write them, and what WebDataset itself reads of them."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

Members = Iterable[tuple[str, bytes]]


def tar(members: Members, form: int = tarfile.PAX_FORMAT, **about: Any) -> bytes:  # Any: attributes of TarInfo
    """A tar by Python's own writer, with 10 KiB of padding at its end."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as writer:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            for attribute, value in about.items():
                setattr(info, attribute, value)
            writer.addfile(info, io.BytesIO(payload))
    return sink.getvalue()


def numbered(first: int, count: int, *, folder: str = "") -> Members:
    """Samples with a picture, a class and a record; their payloads tell them apart."""
    for number in range(first, first + count):
        yield f"{folder}{number:06d}.jpg", b"\xff\xd8" + b"%d" % number * 50
        yield f"{folder}{number:06d}.cls", b"%d" % (number % 3)
        yield f"{folder}{number:06d}.json", b'{"caption": "number %d", "license": "CC0-1.0"}' % number


def webdatasets_own(payload: bytes) -> list[tuple[str, Mapping[str, bytes]]]:
    """Key and fields of each sample, as WebDataset reads them. Raises what it raises."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    source = [{"url": "a.tar", "stream": io.BytesIO(payload)}]
    found = group_by_keys(tar_file_expander(source))
    return [(one["__key__"], {name: one[name] for name in one if not name.startswith("__")}) for one in found]
