"""Tars as other tools write them, what WebDataset reads of them, and corpora made of them."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stoker.storage import open_store
from stoker.storage.indexed.indexing import Indexed, index
from stoker.storage.indexed.tars import find_tars
from stoker.storage.stores.store import Store

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


def read_by_webdataset(payload: bytes) -> list[tuple[str, Mapping[str, bytes]]]:
    """Key and fields of each sample, as WebDataset reads them. Raises what it raises."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    source = [{"url": "a.tar", "stream": io.BytesIO(payload)}]
    samples = group_by_keys(tar_file_expander(source))
    return [
        (sample["__key__"], {name: sample[name] for name in sample if not name.startswith("__")}) for sample in samples
    ]


def put(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)


def indexed(folder: Path | str, to: Store | None = None, corpus: str = "theirs", **options: Any) -> Indexed:
    store = to or open_store(str(Path(folder).parent / "store"))
    result = index(find_tars(str(folder), store), store, corpus, **options)
    assert result is not None
    return result
