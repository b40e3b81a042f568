"""HDR frames look as their SDR versions do, and records say what they were."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoReader
from stoker.pipelines.video.picture import Hdr, PictureOptions
from tests.data import CASES, needs_cases

BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087


def sdr_picture() -> npt.NDArray[np.uint8]:
    """Slopes of all colours, from black to white."""
    across, down = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 64))
    return (np.stack([across, down, (1 - across + down) / 2], -1) * 255).round().astype(np.uint8)


def pq_codes(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SMPTE ST 2084's signal for light in units of 10,000 cd/m2."""
    power = light**0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_codes(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """BT.2100's signal for light of a display of 1,000 cd/m2, in units of that."""
    luminance = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = light * luminance ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def hdr_film(path: Path, transfer: int, *, boost: float = 1.0) -> Path:
    """A film of the SDR picture in HDR, white at 203 cd/m2 times ``boost``."""
    light = np.clip((sdr_picture() / 255.0) ** 2.4 @ BT709_TO_BT2020.T, 0, 1) * 203 * boost
    red, green, blue = np.moveaxis(pq_codes(light / 10_000) if transfer == 16 else hlg_codes(light / 1_000), -1, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = (64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace, codec.color_range = transfer, 9, 9, 1
        values = np.stack([plane.round().astype(np.uint16) for plane in planes])
        for number in range(3):
            frame = av.VideoFrame(96, 64, "yuv444p10le")
            for plane, samples in zip(frame.planes, values, strict=True):
                rows = np.zeros((64, plane.line_size // 2), np.uint16)
                rows[:, :96] = samples
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 10)
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def first_of(path: Path, hdr: Hdr = "tonemap") -> tuple[Image.Image | Rejected, dict[str, object]]:
    """The first frame's picture, and what its record says."""
    frame = next(VideoReader(path, PictureOptions(hdr=hdr)).frames(FrameTimes(Fraction(1))))
    return frame.picture, frame.facts


def error(picture: Image.Image | Rejected, expected: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(np.asarray(picture).astype(int) - expected).mean())


@pytest.mark.parametrize(("transfer", "name"), [(16, "smpte2084"), (18, "arib-std-b67")])
def test_hdr_is_mapped_to_the_sdr_picture_that_it_was_made_of(transfer: int, name: str, tmp_path: Path) -> None:
    path = hdr_film(tmp_path / "a.mkv", transfer)
    mapped, facts = first_of(path)
    raw, _ = first_of(path, "raw")
    assert error(mapped, sdr_picture()) < 1.5
    assert error(raw, sdr_picture()) > 15
    assert facts == {
        "transfer": name,
        "primaries": "bt2020",
        "matrix": "bt2020nc",
        "range": "tv",
        "bit_depth": 10,
        "hdr": "tonemap",
    }


def test_highlights_keep_their_differences(tmp_path: Path) -> None:
    picture, _ = first_of(hdr_film(tmp_path / "a.mkv", 16, boost=4))
    values = np.asarray(picture).astype(int)
    assert values.max() <= 255
    assert (values == 255).mean() < 0.25  # 0.4 and more where light above white is cut off
    greys = [int(values[row, column].sum()) for row, column in ((10, 15), (30, 45), (50, 80), (63, 95))]
    assert greys == sorted(greys)
    assert len(set(greys)) == 4


def test_a_recipe_may_reject_hdr(tmp_path: Path) -> None:
    picture, _ = first_of(hdr_film(tmp_path / "a.mkv", 18), "reject")
    assert picture == Rejected("hdr", "its transfer is arib-std-b67")


@needs_cases
def test_a_real_clip_in_pq_looks_as_in_sdr() -> None:
    assert CASES is not None
    sdr, facts = first_of(CASES / "video" / "sdr_same_as_pq.mp4")
    picture, _ = first_of(CASES / "video" / "pq.mp4")
    assert error(picture, np.asarray(sdr)) < 3
    assert facts == {"transfer": "bt709", "primaries": "bt709", "matrix": "bt709", "range": "tv"}
