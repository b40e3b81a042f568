"""CPU seconds of reading a video's frames beside a loop that decodes every frame, in pairs: 1/s and 1 in 10 s.

The clips are two minutes of 720p with closed and with open groups of pictures, made once in ``--folder``. The peers are
a plain PyAV loop that decodes all and converts the wanted frames, and ``ffmpeg -vf fps`` where that command is found.
``--other PATH`` reads with another checkout of Stoker, too. Usage: bench_video.py [--rounds 5] [--seconds 120]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image

_RATE = 24
Measure = Callable[[Path, str], tuple[float, str, str]]
_GOP = "keyint=48:min-keyint=48:scenecut=0:log=0"
_CLIPS = {"closed": _GOP, "open": f"open-gop=1:{_GOP}"}
_STOKER = """
import sys, time
from fractions import Fraction
from pathlib import Path
from stoker.pipelines.video.frames import VideoReader
try:
    from stoker.pipelines.video.decoding.selection import FrameTimes
except ImportError:
    from stoker.pipelines.video.selection import FrameTimes
import av, PIL.Image
started = time.process_time()
video = VideoReader(Path(sys.argv[1]))
frames = sum(1 for _ in video.frames(FrameTimes(Fraction(sys.argv[2]))))
print(time.process_time() - started, frames, video.decoded)
"""
_PLAIN = """
import sys, time
from fractions import Fraction
import av, PIL.Image
started = time.process_time()
number = decoded = 0
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        decoded += 1
        if frame.pts * stream.time_base >= number / Fraction(sys.argv[2]):
            frame.to_image()
            number += 1
print(time.process_time() - started, number, decoded)
"""


def clip(path: Path, options: str, *, seconds: int) -> None:
    """A landscape that moves sideways, at 720p."""
    random, width, height = np.random.default_rng(1), 1280, 720
    small = random.integers(0, 255, (height // 16, (width + 1024) // 16, 3)).astype(np.uint8)
    scene = np.asarray(Image.fromarray(small).resize((width + 1024, height), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "veryfast", "x264-params": options})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * _RATE):
            left = abs(3 * number % 2046 - 1023)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[:, left : left + width]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def by_python(code: str, root: Path, path: Path, rate: str) -> tuple[float, str, str]:
    command = [sys.executable, "-c", code, str(path), rate]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    seconds, frames, decoded = done.stdout.split()
    return float(seconds), frames, decoded


def by_ffmpeg(command: str, path: Path, rate: str) -> tuple[float, str, str]:
    before = os.times()
    form = ["-vf", f"fps={rate}", "-pix_fmt", "rgb24", "-f", "null", "-"]
    subprocess.run([command, "-v", "error", "-threads", "1", "-i", str(path), *form], check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, "", "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=120, help="of the clips")
    parser.add_argument("--folder", type=Path, help="where the clips are kept; default: made anew")
    parser.add_argument("--other", type=Path, help="another checkout of Stoker")
    options = parser.parse_args()
    root, command = Path(__file__).resolve().parents[2], shutil.which("ffmpeg")
    with tempfile.TemporaryDirectory() as made:
        for name, coding in _CLIPS.items():
            path = (options.folder or Path(made)) / f"{name}.mp4"
            if not path.exists():
                clip(path, coding, seconds=options.seconds)
            for rate in ("1", "1/10"):
                peers: dict[str, Measure] = {"plain loop": partial(by_python, _PLAIN, root)}
                if command:
                    peers["ffmpeg"] = partial(by_ffmpeg, command)
                if options.other:
                    peers["other"] = partial(by_python, _STOKER, options.other.resolve())
                for peer, run in peers.items():
                    pairs = []
                    for number in range(options.rounds):  # each is first in every other pair
                        if number % 2:
                            theirs, ours = run(path, rate), by_python(_STOKER, root, path, rate)
                        else:
                            ours, theirs = by_python(_STOKER, root, path, rate), run(path, rate)
                        pairs.append((ours, theirs))
                    own = statistics.median(ours[0] for ours, _ in pairs)
                    their = statistics.median(theirs[0] for _, theirs in pairs)
                    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
                    frames, decoded = pairs[0][0][1:]
                    print(
                        f"{name}, {rate}/s: {frames} frames, {decoded} decoded, {own:.2f} CPU-s "
                        f"({int(frames) / own:.0f} frames a CPU-second); {peer} {their:.2f} CPU-s, "
                        f"{pairs[0][1][2]} decoded; median ratio {ratio:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
