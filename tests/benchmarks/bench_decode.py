"""Random crops of JPEGs as batches: Stoker's PictureMaker and Loader beside bare decoder loops and Pillow.

    python tests/benchmarks/bench_decode.py [--images FOLDER] [--rounds 7] [--batches 8] [--size 224] [--side 256]

Each round runs every reader once, in turn, on the same images with the same crops. "region loop" and "full loop" are
lower bounds: libturbojpeg's region decode, or simplejpeg's decode of the whole image, and one cv2.resize of the crop
into a reused batch. Ratios are medians over the rounds of processor time to that of the region
loop in the same round. FOLDER holds JPEGs; without it they are generated: smooth shapes under noise, with the
bytes per pixel of a photograph.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.loader.loader import Loader
from stoker.training.pictures import jpeg, libturbojpeg
from stoker.training.pictures.crops import is_mirrored, random_crop
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.reading.samples import Samples
from stoker.training.stream.stream import ShardStream
from tests.training import corpora

BATCH = 128
CROP = partial(random_crop, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
Run = Callable[[], int]  # images read


def generate_jpegs(count: int, side: int) -> list[bytes]:
    """JPEGs of 256 px have about 18 KB."""
    generator = np.random.default_rng(0)
    jpegs = []
    for _ in range(count):
        small = generator.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC), np.int16)
        fine = np.clip(smooth + generator.integers(-14, 15, smooth.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(fine).save(file, "JPEG", quality=85)
        jpegs.append(file.getvalue())
    return jpegs


class BareLoops:
    """Decoder loops without a loader: payloads and crops are known beforehand, all batches share their memory."""

    def __init__(self, payloads: Sequence[memoryview], draws: Sequence[bytes], size: int) -> None:
        self.payloads, self.draws, self.size = payloads, draws, size
        self.out = np.empty((BATCH, size, size, 3), np.uint8)
        sizes = [Image.open(io.BytesIO(payload)).size for payload in payloads]
        self.boxes = [CROP(*image_size, drawn) for image_size, drawn in zip(sizes, draws, strict=True)]
        self.mirrored = [is_mirrored(drawn) for drawn in draws]

    def finish(self, pixels: np.ndarray, index: int) -> None:
        out = self.out[index % BATCH]
        cv2.resize(pixels, (self.size, self.size), dst=out, interpolation=cv2.INTER_LINEAR)
        if self.mirrored[index]:
            cv2.flip(out, 1, dst=out)

    def region(self) -> int:
        library = libturbojpeg.library()
        assert library is not None, "the region loop needs libturbojpeg 3"
        handle, scratch = library.tj3Init(1), np.empty(3 * 4096 * 4096, np.uint8)
        for index, (payload, (left, top, width, height)) in enumerate(zip(self.payloads, self.boxes, strict=True)):
            data = np.frombuffer(payload, np.uint8)
            address = data.ctypes.data
            library.tj3DecompressHeader(handle, address, data.size)
            mcu_width = libturbojpeg.MCU_SIZES[library.tj3Get(handle, libturbojpeg.SUBSAMPLING)][0]
            start = left // mcu_width * mcu_width
            across = width + left - start
            assert library.tj3SetCroppingRegion(handle, libturbojpeg.Region(start, top, across, height)) == 0
            assert library.tj3Decompress8(handle, address, data.size, scratch.ctypes.data, across * 3, 0) == 0
            self.finish(scratch[: across * height * 3].reshape(height, across, 3)[:, left - start :], index)
        library.tj3Destroy(handle)
        return len(self.payloads)

    def full(self) -> int:
        for index, (payload, (left, top, width, height)) in enumerate(zip(self.payloads, self.boxes, strict=True)):
            self.finish(simplejpeg.decode_jpeg(payload)[top : top + height, left : left + width], index)
        return len(self.payloads)

    def pillow(self) -> int:
        """As torchvision's RandomResizedCrop and ToTensor do it, without the division by 255."""
        for index, (payload, (left, top, width, height)) in enumerate(zip(self.payloads, self.boxes, strict=True)):
            image = Image.open(io.BytesIO(payload)).convert("RGB").crop((left, top, left + width, top + height))
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
            if self.mirrored[index]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            self.out[index % BATCH] = np.asarray(image)
        return len(self.payloads)


def by_maker(maker: PictureMaker, batches: Sequence[tuple[Samples, Sequence[bytes]]]) -> int:
    return sum(len(maker(samples, draws).images) for samples, draws in batches)


def by_loader(loader: Loader) -> int:
    images = sum(len(batch.images) for batch in loader)
    # Wait for the batches of the next epoch that were begun. Their cost counts in this round, in place of the first
    # batches of this epoch, which the round before made.
    for future in list(loader._pending.values()):
        future.exception()
    return images


def measure(runs: dict[str, Run], rounds: int) -> None:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):  # round 0 warms up, and is not counted
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            images = run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if number:
                seconds[name].append((cpu / images * 1e6, images / wall))
    floor = seconds["region loop"]
    print("| | CPU ms per 1,000 | images/s | CPU to the region loop's |\n|---|---|---|---|")
    for name, rounds_of_reader in seconds.items():
        ratio = statistics.median(cpu / least for (cpu, _), (least, _) in zip(rounds_of_reader, floor, strict=True))
        cpu, rate = (statistics.median(column) for column in zip(*rounds_of_reader, strict=True))
        print(f"| {name} | {cpu:.0f} | {rate:,.0f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=8, help=f"of {BATCH} images, in a round")
    parser.add_argument("--size", type=int, default=224, help="of the crops, in pixels")
    parser.add_argument("--side", type=int, default=256, help="of generated images, in pixels")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    count = BATCH * options.batches
    jpegs = (
        [path.read_bytes() for path in sorted(options.images.glob("*.jp*g"))]
        if options.images
        else generate_jpegs(min(count, 256), options.side)
    )
    samples = [Sample(f"s{n:06d}", {"jpg": jpegs[n % len(jpegs)]}, {"label": n % 10}) for n in range(count)]
    print(f"{len(jpegs)} images, {sum(map(len, jpegs)) / len(jpegs) / 1000:.1f} KB; engine {jpeg.engine()}")
    with tempfile.TemporaryDirectory() as folder:
        store = MemoryStore()
        manifest = corpora.version(store, Path(folder), {"train": samples}, per_shard=1000)
        maker = PictureMaker(options.size, label="label")

        def stream() -> ShardStream:
            return ShardStream(store, manifest, batch_size=BATCH, make=maker, cache=Path(folder) / "cache")

        source = stream()
        batches: list[tuple[Samples, Sequence[bytes]]] = []
        generator = np.random.default_rng(1)
        for start in range(0, count, BATCH):
            samples_of_batch = source.fetch_samples(source.locate_share(0, start))
            draws_of_batch = [generator.bytes(32) for _ in range(len(samples_of_batch))]
            batches.append((samples_of_batch, draws_of_batch))
        payloads = [payload for batch, _ in batches for payload in batch.column("jpg") if payload is not None]
        bare = BareLoops(payloads, [drawn for _, draws in batches for drawn in draws], options.size)
        loaders = {workers: Loader(stream(), workers=workers) for workers in (1, 2)}
        measure(
            {
                "region loop": bare.region,
                "full loop": bare.full,
                "PictureMaker": lambda: by_maker(maker, batches),
                "Loader, 1 thread": lambda: by_loader(loaders[1]),
                "Loader, 2 threads": lambda: by_loader(loaders[2]),
                "Pillow": bare.pillow,
            },
            options.rounds,
        )
        for loader in loaders.values():
            loader.close()
        source.close()


if __name__ == "__main__":
    main()
