"""The contenders of bench_stream.py: each yields batches of the same samples, raw or decoded, from a folder or S3.

A contender is a function (task) -> iterator over batches, each a list of samples of payloads (raw) or an array of
images (decoded). Its imports are its own: one that is not installed is left out by name.
"""

import importlib
import json
import math
import random
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZE = 224
BATCH = 128


@dataclass(frozen=True)
class Task:
    """What to read: ``where`` is "local" or "s3"; ``decoded``: random crops of SIZE px, else payloads."""

    folder: Path
    where: str
    decoded: bool
    workers: int
    epochs: int
    cache: Path
    endpoint: str = ""
    window: int = 8  # shards whose samples a stream shuffles
    cache_megabytes: int = 0  # that a cache may hold; 0: as its default is
    rank: int = 0
    world_size: int = 1

    @property
    def facts(self) -> dict[str, Any]:  # Any: JSON values
        return dict(json.loads((self.folder / "facts.json").read_text()))

    @property
    def tars(self) -> list[str]:
        """Paths or presigned URLs of the WebDataset tars."""
        return list(self.facts["urls"] if self.where == "s3" else self.facts["tars"])


Batches = Iterator[Any]  # lists of tuples of payloads, or arrays


def random_box(width: int, height: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return random.randint(0, width - across), random.randint(0, height - down), across, down
    return 0, 0, width, height


def fast_decode(payload: bytes) -> Any:  # Any: an array
    """The decoder that every peer uses: simplejpeg and OpenCV."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    image = simplejpeg.decode_jpeg(payload)
    left, top, across, down = random_box(image.shape[1], image.shape[0])
    resized = cv2.resize(image[top : top + down, left : left + across], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return resized[:, ::-1] if random.random() < 0.5 else resized


def pillow_decode(payload: bytes) -> Any:  # Any: an array
    import io

    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(payload)).convert("RGB")
    left, top, across, down = random_box(*image.size)
    box = (left, top, left + across, top + down)
    resized = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))
    return resized[:, ::-1] if random.random() < 0.5 else resized


def stacked(images: list[Any]) -> Any:  # Any: arrays
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.stack(images)))


def stoker(task: Task) -> Batches:
    from stoker.training.pictures.pictures import PictureMaker

    make = PictureMaker(SIZE) if task.decoded else None
    for batch in _stoker(task, make):
        yield batch.images if task.decoded else list(zip(batch.column("jpg"), batch.column("json"), strict=True))


def stoker_masked(task: Task) -> Batches:
    """Every fifth sample is masked: as fast a stored byte are 0.8 times as many samples."""
    for batch in _stoker(task, None, "bench@2"):
        yield list(zip(batch.column("jpg"), batch.column("json"), strict=True))


def stoker_same(task: Task) -> Batches:
    """With the peers' decoder."""
    yield from _stoker(task, lambda batch, _: _decoded_samples(batch.column("jpg")))


def _stoker(task: Task, make: Any, version: str = "bench@1") -> Batches:  # Any: what makes a batch
    from stoker.storage import open_store
    from stoker.storage.stores.s3 import S3Store
    from stoker.training.loader.loader import Loader
    from stoker.training.reading.cache import MEGABYTES
    from stoker.training.stream.stream import ShardStream

    store: Any = open_store(str(task.folder / "stoker"))
    if task.where == "s3":
        keys = task.facts["keys"]
        prefix = f"{task.facts['prefix']}/stoker"
        store = S3Store("bench", prefix=prefix, endpoint=task.endpoint, access_key=keys[0], secret_key=keys[1])
    stream = ShardStream(
        store,
        version,
        batch_size=BATCH * task.world_size,
        rank=task.rank,
        world_size=task.world_size,
        window=task.window,
        make=make,
        cache=task.cache,
        cache_megabytes=task.cache_megabytes or MEGABYTES,
    )
    loader = Loader(stream, workers=task.workers)
    for _ in range(task.epochs):
        yield from loader
    loader.close()
    stream.close()


def walk(task: Task) -> Batches:
    """The lower bound: a loop over shuffled samples in memory maps, found by the index; decoded by a bare loop."""
    import mmap

    from stoker.storage import open_store
    from stoker.storage.shards.index import ShardIndex
    from stoker.storage.versions.manifest import load_manifest

    store = open_store(str(task.folder / "stoker"))
    samples: list[Any] = []
    for shard in load_manifest(store, "bench@1").shards:
        index = ShardIndex.decode(store.read(shard.index), "")
        path = store.path(shard.key)
        assert path is not None
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        order = [index.extensions.index(name) for name in ("jpg", "json")]
        fields = [list(zip(index.offsets[e].tolist(), index.sizes[e].tolist(), strict=True)) for e in order]
        samples.extend((view, *spans) for spans in zip(*fields, strict=True))
    random.Random(0).shuffle(samples)
    samples = samples[task.rank :: task.world_size]
    for _ in range(task.epochs):
        for start in range(0, len(samples), BATCH):
            batch = [
                (view[a : a + size], view[b : b + more])
                for view, (a, size), (b, more) in samples[start : start + BATCH]
            ]
            yield _bare(batch) if task.decoded else batch


def _bare(batch: list[Any]) -> Any:  # Any: payloads; a tensor
    """Crops decoded into one batch's memory by the functions that PictureMaker uses."""
    import os as system

    from stoker.training.pictures.crops import random_crop
    from stoker.training.pictures.jpeg import decode, open_jpeg
    from stoker.training.pictures.pictures import resize

    if not _OUT:
        import numpy as np

        _OUT.append(np.empty((BATCH, SIZE, SIZE, 3), np.uint8))
    for index, (payload, _) in enumerate(batch):
        opened = open_jpeg(payload)
        assert opened is not None
        box = random_crop(opened.width, opened.height, system.urandom(32), scale=(0.08, 1), ratio=(3 / 4, 4 / 3))
        pixels = decode(opened, box)
        assert pixels is not None
        resize(pixels, _OUT[0][index], mirror=bool(index & 1))
    return _OUT[0][: len(batch)]


_OUT: list[Any] = []


def _webdataset(task: Task, decode: Callable[[bytes], Any]) -> Batches:
    import webdataset as wds

    split = {"nodesplitter": wds.split_by_node} if task.world_size > 1 else {}
    data = wds.WebDataset(task.tars, shardshuffle=len(task.tars), empty_check=False, **split).shuffle(1000)
    if task.decoded:
        data = data.to_tuple("jpg").map_tuple(decode).batched(BATCH, collation_fn=_first_stacked, partial=True)
    else:
        data = data.to_tuple("jpg", "json").batched(BATCH, collation_fn=list, partial=True)
    yield from _loader(data.repeat(task.epochs), task)


def _first_stacked(samples: list[Any]) -> Any:  # Any: tuples of arrays
    return stacked([sample[0] for sample in samples])


def _loader(data: Any, task: Task) -> Batches:  # Any: a data set whose samples are batches
    from torch.utils.data import DataLoader

    yield from DataLoader(data, batch_size=None, num_workers=task.workers)


def webdataset(task: Task) -> Batches:
    yield from _webdataset(task, fast_decode)


def webdataset_pillow(task: Task) -> Batches:
    """With its default decoding."""
    yield from _webdataset(task, pillow_decode)


def _decoded_samples(samples: list[bytes]) -> Any:  # Any: a tensor
    return stacked([fast_decode(sample) for sample in samples])


def stub_torchvision() -> None:
    """Stub torchvision, which Mosaic imports for data sets that are not used here; it has no build for CPU torch."""
    # First: it checks what is installed.
    import transformers.feature_extraction_utils  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    stubs = [types.ModuleType(name) for name in names]
    stubs[1].VisionDataset = object  # type: ignore[attr-defined]  # only inherited from
    stubs[3].to_tensor = None  # type: ignore[attr-defined]  # never called
    for stub in stubs:
        sys.modules.setdefault(stub.__name__, stub)


def mosaic(task: Task) -> Batches:
    stub_torchvision()
    from streaming import StreamingDataset  # type: ignore[import-not-found,unused-ignore]  # see peers.txt
    from torch.utils.data import DataLoader

    remote = f"s3://bench/{task.facts['prefix']}/mds" if task.where == "s3" else None
    local = str(task.cache if task.where == "s3" else task.folder / "mds")
    limit = {"cache_limit": f"{task.cache_megabytes}mb"} if task.cache_megabytes else {}
    data = StreamingDataset(remote=remote, local=local, shuffle=True, batch_size=BATCH, num_canonical_nodes=1, **limit)
    collate = _mosaic_decoded if task.decoded else _mosaic_raw
    loader = DataLoader(
        data, batch_size=BATCH, num_workers=task.workers, collate_fn=collate, persistent_workers=task.workers > 0
    )
    for _ in range(task.epochs):
        yield from loader


def _mosaic_raw(samples: list[Any]) -> list[Any]:  # Any: payloads by name
    return [(sample["jpg"], sample["json"]) for sample in samples]


def _mosaic_decoded(samples: list[Any]) -> Any:  # Any: payloads by name; a tensor
    return _decoded_samples([sample["jpg"] for sample in samples])


def litdata(task: Task) -> Batches:
    # See peers.txt.
    from litdata import StreamingDataLoader, StreamingDataset  # type: ignore[import-not-found,unused-ignore]

    options: dict[str, Any] = {}
    where = str(task.folder / "litdata")
    if task.where == "s3":
        from litdata.streaming import downloader  # type: ignore[import-not-found,unused-ignore]  # see peers.txt

        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # it has no option for a server without TLS
        keys = task.facts["keys"]
        where = f"s3://bench/{task.facts['prefix']}/litdata"
        names = ("aws_access_key_id", "aws_secret_access_key", "endpoint_url", "region_name")
        options = {
            "storage_options": dict(zip(names, (*keys, task.endpoint, "us-east-1"), strict=True)),
            "cache_dir": str(task.cache),
        }
        if task.cache_megabytes:
            options["max_cache_size"] = f"{task.cache_megabytes}MB"
    data = StreamingDataset(where, shuffle=True, **options)
    collate = _litdata_decoded if task.decoded else _litdata_raw
    loader = StreamingDataLoader(
        data, batch_size=BATCH, num_workers=task.workers, collate_fn=collate, persistent_workers=task.workers > 0
    )
    for _ in range(task.epochs):
        yield from loader


def _litdata_raw(samples: list[Any]) -> list[Any]:  # Any: payloads
    return [tuple(map(bytes, sample)) for sample in samples]  # its memory views cannot leave the worker


def _litdata_decoded(samples: list[Any]) -> Any:  # Any: payloads; a tensor
    return _decoded_samples([sample[0] for sample in samples])


def hugging_face(task: Task) -> Batches:
    import datasets
    import datasets.distributed
    from torch.utils.data import DataLoader

    data = datasets.load_dataset(
        "webdataset", data_files={"train": task.tars}, split="train", streaming=True, cache_dir=str(task.cache)
    )
    data = data.cast_column("jpg", datasets.Image(decode=False)).shuffle(buffer_size=1000, seed=0)
    if task.world_size > 1:
        data = datasets.distributed.split_dataset_by_node(data, task.rank, task.world_size)
    collate = _hugging_face_decoded if task.decoded else _hugging_face_raw
    loader = DataLoader(
        data, batch_size=BATCH, num_workers=task.workers, collate_fn=collate, persistent_workers=task.workers > 0
    )
    for _ in range(task.epochs):
        yield from loader


def _hugging_face_raw(samples: list[Any]) -> list[Any]:  # Any: columns by name
    return [(sample["jpg"]["bytes"], json.dumps(sample["json"]).encode()) for sample in samples]


def _hugging_face_decoded(samples: list[Any]) -> Any:  # Any: columns by name; a tensor
    return _decoded_samples([sample["jpg"]["bytes"] for sample in samples])


def energon(task: Task) -> Batches:
    from megatron.energon import (  # type: ignore[import-not-found,unused-ignore]  # see peers.txt
        Cooker,
        CrudeSample,
        DefaultTaskEncoder,
        WorkerConfig,
        get_loader,
        get_train_dataset,
        stateless,
    )

    if task.where == "s3":
        raise NotImplementedError("its S3 needs a configuration file of its own")

    @stateless  # type: ignore[untyped-decorator]  # not typed
    def cook(sample: Any) -> Any:  # Any: payloads by name
        kept = ("__key__", "__restore_key__", "jpg", "json")
        return CrudeSample({name: sample[name] for name in kept})

    class Encoder(DefaultTaskEncoder):  # type: ignore[misc]  # not typed
        cookers = [Cooker(cook)]  # noqa: RUF012  # its way
        decoder = None

        def batch(self, samples: list[Any]) -> Any:  # Any: crude samples
            if task.decoded:
                return _decoded_samples([sample["jpg"] for sample in samples])
            return [(sample["jpg"], sample["json"]) for sample in samples]

        def encode_batch(self, batch: Any) -> Any:  # Any: as above
            return batch

    workers = WorkerConfig(rank=task.rank, world_size=task.world_size, num_workers=task.workers)
    data = get_train_dataset(
        task.folder / "energon",
        batch_size=BATCH,
        shuffle_buffer_size=1000,
        max_samples_per_sequence=None,
        worker_config=workers,
        task_encoder=Encoder(),
    )
    left = task.facts["samples"] * task.epochs // (BATCH * task.world_size)
    for batch in get_loader(data):
        yield batch
        left -= 1
        if not left:  # it never ends by itself
            return


def dali(task: Task) -> Batches:
    """DALI's reader and decoder on the CPU."""
    from nvidia.dali import fn, pipeline_def, types  # type: ignore[import-not-found,unused-ignore]  # see peers.txt

    if task.where == "s3":
        raise NotImplementedError("its reader wants files")

    # Its decorator has no types.
    @pipeline_def(  # type: ignore[untyped-decorator,unused-ignore]
        batch_size=BATCH, num_threads=max(1, task.workers), device_id=None, prefetch_queue_depth=2
    )
    def pipeline() -> Any:  # Any: DALI's nodes
        jpg, record = fn.readers.webdataset(
            paths=task.tars,
            index_paths=task.facts["dali"],
            ext=["jpg", "json"],
            missing_component_behavior="error",
            random_shuffle=True,
            initial_fill=1000,
            shard_id=task.rank,
            num_shards=task.world_size,
            dont_use_mmap=False,
            name="reader",
        )
        if not task.decoded:
            return jpg, record
        image = fn.decoders.image_random_crop(
            jpg, device="cpu", output_type=types.RGB, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        image = fn.resize(image, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=False)
        return fn.flip(image, horizontal=fn.random.coin_flip()), record

    built = pipeline()
    built.build()
    for _ in range(task.facts["samples"] * task.epochs // (BATCH * task.world_size)):
        image, record = built.run()
        yield image.as_array() if task.decoded else [(image.at(i), record.at(i)) for i in range(BATCH)]


def wids(task: Task) -> Batches:
    """Webdataset's random access, as of the last release that had it."""
    import wids as library  # type: ignore[import-not-found,unused-ignore]  # see peers.txt
    from torch.utils.data import DataLoader

    if task.where == "s3":
        raise NotImplementedError("it downloads whole shards before it begins")
    data = library.ShardListDataset(task.facts["wids"], transformations=[], keep=True, localname=str)
    sampler = library.DistributedChunkedSampler(data, chunksize=1000, shuffle=True)
    collate = _wids_decoded if task.decoded else _wids_raw
    loader = DataLoader(
        data,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=task.workers,
        collate_fn=collate,
        persistent_workers=task.workers > 0,
    )
    for epoch in range(task.epochs):
        sampler.set_epoch(epoch)
        yield from loader


def _wids_raw(samples: list[Any]) -> list[Any]:  # Any: files by name
    return [(sample[".jpg"].read(), sample[".json"].read()) for sample in samples]


def _wids_decoded(samples: list[Any]) -> Any:  # Any: files by name; a tensor
    return _decoded_samples([sample[".jpg"].read() for sample in samples])


def spdl(task: Task) -> Batches:
    """SPDL's reader of tars and its pipeline of threads; it has no shuffle."""
    import urllib.request

    from spdl.io import iter_tarfile  # type: ignore[import-not-found,unused-ignore]  # see peers.txt
    from spdl.pipeline import PipelineBuilder  # type: ignore[import-not-found,unused-ignore]  # see peers.txt

    def tars() -> Iterator[str]:
        for epoch in range(task.epochs):
            order = list(task.tars)[task.rank :: task.world_size]
            random.Random(epoch).shuffle(order)
            yield from order

    def members(tar: str) -> Iterator[tuple[memoryview, memoryview]]:
        if task.where == "s3":
            with urllib.request.urlopen(tar) as response:
                payload = response.read()
        else:
            payload = Path(tar).read_bytes()
        jpg: memoryview | None = None
        for name, content in iter_tarfile(payload):
            if name.endswith(".jpg"):
                jpg = content
            elif jpg is not None:
                yield jpg, content

    threads = max(1, task.workers)
    pipeline = PipelineBuilder().add_source(tars()).pipe(members)
    if task.decoded:
        pipeline = pipeline.pipe(lambda sample: fast_decode(sample[0]), concurrency=threads)
    pipeline = pipeline.aggregate(BATCH)
    if task.decoded:
        pipeline = pipeline.pipe(stacked)
    built = pipeline.add_sink(3).build(num_threads=threads + 2)
    with built.auto_stop():
        yield from built


CONTENDERS: dict[str, Callable[[Task], Batches]] = {
    "walk": walk,
    "stoker": stoker,
    "stoker-again": stoker,  # with what the run before it left in the cache
    "stoker-masked": stoker_masked,
    "stoker-same": stoker_same,
    "webdataset": webdataset,
    "webdataset-pillow": webdataset_pillow,
    "mosaicml-streaming": mosaic,
    "litdata": litdata,
    "datasets": hugging_face,
    "energon": energon,
    "dali": dali,
    "wids": wids,
    "spdl": spdl,
}
PACKAGES = {
    "webdataset": "webdataset",
    "mosaicml-streaming": "mosaicml-streaming",
    "litdata": "litdata",
    "datasets": "datasets",
    "energon": "megatron-energon",
    "dali": "nvidia-dali-cuda130",
    "spdl": "spdl",
}
_STOKER = (
    "stoker.storage.stores.urls",
    "stoker.training.loader.loader",
    "stoker.training.pictures.pictures",
    "stoker.training.stream.stream",
)
# What a contender's program has imported before its stream is made; what is imported later counts.
IMPORTS: dict[str, tuple[str, ...]] = {
    "mosaicml-streaming": ("streaming",),
    "litdata": ("litdata", "litdata.streaming.downloader"),
    "datasets": ("datasets", "datasets.distributed"),
    "energon": ("megatron.energon",),
    "dali": ("nvidia.dali", "nvidia.dali.fn"),
    "wids": ("wids",),
    "spdl": ("spdl.io", "spdl.pipeline"),
    "webdataset": ("webdataset",),
    "webdataset-pillow": ("webdataset",),
}


def import_libraries(contender: str) -> None:
    """Import what a contender uses, and what all may use; make nothing."""
    if contender == "mosaicml-streaming":
        stub_torchvision()
    if contender == "wids":
        sys.path.insert(0, f"{sys.prefix}/wids")
    for name in (
        "boto3",
        "cv2",
        "numpy",
        "PIL.Image",
        "simplejpeg",
        "torch.utils.data",
        *IMPORTS.get(contender, _STOKER),
    ):
        importlib.import_module(name)
