"""CPU milliseconds an image of step ``image`` beside the path that img2dataset documents, in pairs.

The peer decodes whole with cv2.imdecode, resizes with INTER_AREA and encodes with cv2.imencode, as img2dataset's
README describes its resizer ("resize_mode", "interpolation: area"); ``--img2dataset PYTHON`` runs its own Resizer in
that interpreter instead. Usage: bench_image_step.py PHOTO_OR_FOLDER... [--size 256] [--rounds 9] [--decoding fast]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stoker.pipelines.steps.image import Image as ImageStep
from stoker.storage.shards.sample import Sample

_RESIZER = """
import io, json, sys, time
from img2dataset.resizer import Resizer
import cv2; cv2.setNumThreads(1)
resizer = Resizer(image_size=int(sys.argv[1]), resize_mode="keep_ratio", resize_only_if_bigger=False, encode_quality=90)
for line in sys.stdin:
    payloads = [open(path, "rb").read() for path in json.loads(line)]
    started = time.process_time()
    for payload in payloads:
        resizer(io.BytesIO(payload))
    print((time.process_time() - started) / len(payloads) * 1000, flush=True)
"""


def photos(paths: list[Path], side: int, folder: Path) -> list[Path]:
    """The photos with a longer side of this many pixels, as JPEGs of quality 85."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*.jpg")))]
    made: list[Path] = []
    for file in files:
        with Image.open(file) as image:
            if max(image.size) < side or min(image.size) < side // 3:
                continue
            scaled = image.convert("RGB")
            scaled.thumbnail((side, side))
        made.append(folder / f"{len(made)}.jpg")
        scaled.save(made[-1], quality=85)
    return made


def by_cv2(payload: bytes, size: int) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    scale = size / min(pixels.shape[:2])
    target = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    resized = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def cpu_ms(run: Callable[[bytes], object], payloads: list[bytes]) -> float:
    started = time.process_time()
    for payload in payloads:
        run(payload)
    return (time.process_time() - started) / len(payloads) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--decoding", choices=("fast", "exact"), default="fast")
    parser.add_argument("--img2dataset", help="an interpreter that has it")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    step = ImageStep(mode="short_side", size=options.size, decoding=options.decoding)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = photos(options.photos, options.side, Path(folder))
        payloads = [file.read_bytes() for file in files]
        peer: Callable[[], float]
        if options.img2dataset:
            process = subprocess.Popen(
                [options.img2dataset, "-c", _RESIZER, str(options.size)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )  # fmt: skip

            def peer() -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps([str(file) for file in files]) + "\n")
                return float(process.stdout.readline())
        else:

            def peer() -> float:
                return cpu_ms(lambda payload: by_cv2(payload, options.size), payloads)

        ours, theirs, ratios = [], [], []
        for round_ in range(options.rounds + 1):
            pair = cpu_ms(lambda payload: step(Sample("a", {"jpg": payload})), payloads), peer()
            if round_:  # the first warms up
                ours.append(pair[0])
                theirs.append(pair[1])
                ratios.append(pair[0] / pair[1])
        if options.img2dataset:
            process.terminate()
            process.wait()
    print(
        f"{len(files)} photos of {options.side} px to {options.size}: step image {statistics.median(ours):.2f} ms, "
        f"peer {statistics.median(theirs):.2f} ms, median ratio {statistics.median(ratios):.2f}",
        file=sys.stdout,
    )


if __name__ == "__main__":
    main()
