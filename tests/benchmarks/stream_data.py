"""The samples of bench_stream.py, in every contender's own format, in a folder and in a bucket."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_DISTINCT = 512  # images; larger data repeats them


def samples(count: int, *, kinds: bool = False, photographs: Path | None = None) -> list[tuple[str, bytes, bytes]]:
    """Keys, JPEGs and JSON, the same on every machine: pieces of scikit-learn's photographs.

    ``kinds``: of 500 px, of many qualities, shapes and ways of compression, and of the photographs in a folder, too.
    """
    import random

    sources = _sources(photographs if kinds else None)
    draw = random.Random(1)
    jpegs = [
        (_of_any_kind if kinds else _of_256)(sources[n % len(sources)], draw) for n in range(min(count, _DISTINCT))
    ]
    return [
        (f"sample-{number:06d}", jpegs[number % len(jpegs)], json.dumps({"label": number % 10, "n": number}).encode())
        for number in range(count)
    ]


def _sources(folder: Path | None) -> list[Any]:  # Any: PIL's images
    from PIL import Image
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix.lower() in (".jpg", ".jpeg"):
            image = Image.open(path)
            if min(image.size) >= 250:
                images.append(image.convert("RGB"))
    return images


def _of_256(photograph: Any, draw: Any) -> bytes:  # Any: PIL's image, a Random
    side = draw.uniform(0.35, 1) * min(photograph.size)
    return _piece(photograph, draw, side, side, (256, 256), quality=88)


def _of_any_kind(photograph: Any, draw: Any) -> bytes:  # Any: as above
    ratio = draw.choice([1, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9])
    width, height = (500, round(500 / ratio)) if ratio > 1 else (round(500 * ratio), 500)
    part = draw.uniform(0.5, 1) * min(photograph.width / width, photograph.height / height)
    options = {
        "quality": draw.choice([60, 75, 80, 85, 90, 95]),
        "subsampling": draw.choice([0, 1, 2, 2]),
        "progressive": draw.random() < 0.15,
    }
    if draw.random() < 0.05:
        photograph = photograph.convert("L")
    return _piece(photograph, draw, part * width, part * height, (width, height), **options)


def _piece(
    photograph: Any, draw: Any, across: float, down: float, size: tuple[int, int], **options: Any
) -> bytes:  # Any: as above; options of Pillow
    from PIL import Image

    left, top = draw.uniform(0, photograph.width - across), draw.uniform(0, photograph.height - down)
    image = photograph.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + across, top + down))
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def prepare(folder: Path, triples: Sequence[tuple[str, bytes, bytes]], shards: int, names: Sequence[str]) -> None:
    """Write the samples in every contender's own format."""
    from stoker.storage import open_store
    from stoker.storage.shards.sample import Sample
    from stoker.storage.versions.masks.view import with_masks
    from tests.training import corpora

    folder.mkdir(parents=True, exist_ok=True)
    count = len(triples)
    store = open_store(str(folder / "stoker"))
    ours = [Sample(key, {"jpg": jpg}, json.loads(record)) for key, jpg, record in triples]
    manifest = corpora.version(store, folder, {"train": ours}, corpus="bench", per_shard=-(-count // shards))
    if "stoker-masked" in names:
        with_masks(store, manifest, [sample.key for sample in ours[::5]])
    tars = [str(store.path(shard.key)) for shard in manifest.shards]
    facts: dict[str, Any] = {
        "samples": count,
        "tars": tars,
        "dali": [],
        "bytes": sum(len(jpg) for _, jpg, _ in triples),
        "wids": [{"url": tar, "nsamples": shard.samples} for tar, shard in zip(tars, manifest.shards, strict=True)],
    }
    if "mosaicml-streaming" in names:
        _write_mds(folder / "mds", triples)
    if "litdata" in names:
        _write_litdata(folder / "litdata", triples)
    if "dali" in names:
        for tar in tars:
            facts["dali"].append(f"{folder}/{len(facts['dali'])}.idx")
            subprocess.run([Path(sys.executable).with_name("wds2idx"), tar, facts["dali"][-1]], check=True)
    if "energon" in names:
        _write_energon(folder / "energon", tars)
    (folder / "facts.json").write_text(json.dumps(facts))


def _write_mds(folder: Path, triples: Sequence[tuple[str, bytes, bytes]]) -> None:
    code = (
        "import pickle, sys; from tests.benchmarks.stream_peers import stub_torchvision; stub_torchvision()\n"
        "from streaming import MDSWriter\n"
        "with MDSWriter(out=sys.argv[1], columns={'jpg': 'bytes', 'json': 'bytes'}, size_limit='20mb') as out:\n"
        "    for _, jpg, record in pickle.load(sys.stdin.buffer): out.write({'jpg': jpg, 'json': record})\n"
    )
    import pickle

    subprocess.run([sys.executable, "-c", code, str(folder)], input=pickle.dumps(triples), check=True, cwd=_ROOT)


def _write_litdata(folder: Path, triples: Sequence[tuple[str, bytes, bytes]]) -> None:
    from litdata.streaming.writer import BinaryWriter  # type: ignore[import-not-found,unused-ignore]  # see peers.txt

    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_bytes="20MB")
    for number, (_, jpg, record) in enumerate(triples):
        writer[number] = (jpg, record)
    writer.done()
    writer.merge()


def _write_energon(folder: Path, tars: Sequence[str]) -> None:
    # In peers.txt alone, as every contender:
    from megatron.energon.flavors import BaseWebdatasetFactory  # type: ignore[import-not-found,unused-ignore]

    folder.mkdir(parents=True)
    for number, tar in enumerate(tars):
        shutil.copyfile(tar, folder / f"{number:03d}.tar")
    names = [f"{number:03d}.tar" for number in range(len(tars))]
    BaseWebdatasetFactory.prepare_dataset(folder, names, split_parts_ratio=[("train", 1.0)], workers=1)
    text = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
    (folder / ".nv-meta" / "dataset.yaml").write_text(text)


def upload(root: Path, folder: Path, server: Any) -> None:  # Any: seaweed.Server
    """Put everything into the bucket ``bench``, by its path below ``root``, and its URLs into facts.json."""
    from stoker.storage.stores.s3 import S3Store

    keys = (server.access_key, server.secret_key)
    store = S3Store("bench", endpoint=server.endpoint, access_key=keys[0], secret_key=keys[1])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] in ("stoker", "mds", "litdata"):
            key = path.relative_to(root).as_posix()
            if "/.stoker/" not in f"/{key}":
                store.write(key, path)
    facts = json.loads((folder / "facts.json").read_text())
    client = store._connection.client()
    keys_of_tars = [Path(tar).relative_to(root).as_posix() for tar in facts["tars"]]
    facts["urls"] = [
        client.generate_presigned_url("get_object", Params={"Bucket": "bench", "Key": key}, ExpiresIn=7 * 24 * 3600)
        for key in keys_of_tars
    ]
    facts["keys"], facts["prefix"] = keys, folder.relative_to(root).as_posix()
    (folder / "facts.json").write_text(json.dumps(facts))
