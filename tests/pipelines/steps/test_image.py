"""The steps that change images and those that weigh them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images import decoding
from stoker.pipelines.images.codec import decode, header_of
from stoker.pipelines.images.decoded import Decoding
from stoker.pipelines.images.process import budget, pool
from stoker.pipelines.recipe import parse
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.pipelines.steps.aspect_ratio import AspectRatio
from stoker.pipelines.steps.image import Image, Mode
from stoker.pipelines.steps.image_size import ImageSize
from stoker.storage.shards.sample import Sample
from tests.data import SHARED, needs_shared
from tests.pipelines.images.test_resize import float_lanczos, noisy, psnr
from tests.pipelines.pictures import packed, picture, pixels


def after(step: Step, payload: bytes, extension: str = "jpg", **fields: bytes) -> Sample | Rejected:
    return step(Sample("a", {extension: payload} | fields, {"url": "test:a"}))


def opened(step: Step, payload: bytes, extension: str = "jpg") -> Pillow.Image:
    sample = after(step, payload)
    assert isinstance(sample, Sample), sample
    assert list(sample.fields) == [extension]
    return Pillow.open(io.BytesIO(sample.fields[extension]))


def reason(step: Step, payload: bytes) -> str:
    found = after(step, payload)
    assert isinstance(found, Rejected)
    return found.reason


@pytest.mark.parametrize(
    ("options", "from_", "to"),
    [
        ({}, (300, 200), (300, 200)),
        ({"mode": "short_side", "size": 100}, (300, 200), (150, 100)),
        ({"mode": "short_side", "size": 100}, (2000, 3001), (100, 150)),
        ({"mode": "short_side", "size": 100}, (30, 20), (150, 100)),
        ({"mode": "short_side", "size": 100, "only_if_larger": True}, (30, 20), (30, 20)),
        ({"mode": "long_side", "size": 100}, (300, 200), (100, 67)),
        ({"mode": "long_side", "size": 100}, (1000, 1), (100, 1)),
        ({"mode": "center_crop", "size": 100}, (300, 200), (100, 100)),
        ({"mode": "center_crop", "size": 100}, (30, 20), (100, 100)),
        ({"mode": "center_crop", "size": 100, "only_if_larger": True}, (300, 20), (100, 20)),
        ({"mode": "pad", "size": 100}, (300, 200), (100, 100)),
        ({"mode": "pad", "size": 100, "only_if_larger": True}, (30, 20), (100, 100)),
    ],
)
def test_the_size_is_what_the_mode_says(options: dict[str, Any], from_: tuple[int, int], to: tuple[int, int]) -> None:
    assert opened(Image(**options), packed(picture(*from_))).size == to


def test_a_crop_shows_the_middle_and_a_pad_all_on_white() -> None:
    drawn = Pillow.new("RGB", (300, 100), "red")
    drawn.paste("blue", (100, 0, 200, 100))
    middle = np.asarray(opened(Image(mode="center_crop", size=50, format="png"), packed(drawn, "PNG"), "png"))
    assert (middle[:, 4:-4] == (0, 0, 255)).all()  # as if scaled whole and cut after: the edge knows its neighbours
    whole = opened(Image(mode="pad", size=60, format="png"), packed(drawn, "PNG"), "png")
    assert [whole.getpixel(place) for place in ((30, 2), (2, 30), (30, 30))] == [
        (255, 255, 255),
        (255, 0, 0),
        (0, 0, 255),
    ]


def decibels(payload: bytes, size: int, decoding: Decoding, mode: Mode = "short_side") -> float:
    """How near the step's pixels are to those of a Lanczos filter in floats on the whole image."""
    found = np.asarray(opened(Image(mode=mode, size=size, format="png", decoding=decoding), payload, "png"))
    full = decode(payload)
    assert isinstance(full, Pillow.Image)
    return psnr(found, float_lanczos(np.asarray(full), found.shape[1::-1]))


@pytest.mark.parametrize("sides", [(1500, 1000), (1001, 667), (999, 1337), (2111, 1411)])
@pytest.mark.parametrize("size", [32, 64, 128, 250])
def test_a_fast_result_is_near_the_ideal_though_decoded_small(sides: tuple[int, int], size: int) -> None:
    for values in (pixels(*sides), noisy(*sides)):
        payload = packed(Pillow.fromarray(values), quality=90)
        assert decibels(payload, size, "fast") > 47
        assert decibels(payload, size, "fast", "long_side") > 47


@pytest.mark.parametrize("size", [32, 100, 250])
def test_an_exact_result_is_nearer(size: int) -> None:
    payload = packed(Pillow.fromarray(noisy(1001, 667)), quality=90)
    assert decibels(payload, size, "exact") > 57


@needs_shared
@pytest.mark.slow
def test_real_photographs_are_resized_within_the_floors() -> None:
    assert SHARED is not None
    worst: dict[str, list[float]] = {"fast": [], "exact": []}
    for path in sorted((SHARED / "photos").glob("*.jpg")):
        payload = path.read_bytes()
        header = header_of(payload)
        if isinstance(header, Rejected) or not 256 < min(header.width, header.height) < 1600:
            continue
        if isinstance(decode(payload), Rejected):
            continue
        for size in (64, 128, 256):
            worst["fast"].append(decibels(payload, size, "fast"))
        worst["exact"].append(decibels(payload, 128, "exact"))
    assert len(worst["exact"]) > 50
    assert min(worst["fast"]) > 47
    assert min(worst["exact"]) > 57


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["short_side", "center_crop", "pad"])
def test_a_rotated_photograph_is_resized_and_cut_as_if_it_were_upright(orientation: int, mode: Mode) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored = picture(403, 301)
    payload = packed(stored, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(payload)))
    step = Image(mode=mode, size=90, format="png")
    found = np.asarray(opened(step, payload, "png")).astype(int)
    assert np.abs(found - np.asarray(opened(step, packed(upright, "PNG"), "png"))).max() <= 2


def test_a_tiny_image_is_not_blown_up() -> None:
    for form, extension in (("JPEG", "jpg"), ("PNG", "png")):
        payload = packed(Pillow.new("RGB", (1, 1), "red"), form)
        assert reason(Image(mode="short_side", size=256), payload) == "too_small"
        assert reason(Image(mode="center_crop", size=256), payload) == "too_small"
        result = opened(Image(mode="short_side", size=256, max_enlargement=256, format="png"), payload, "png")
        assert result.size == (256, 256), extension
    assert opened(Image(mode="short_side", size=256, only_if_larger=True), packed(picture(1, 1))).size == (1, 1)
    assert opened(Image(mode="short_side", size=160), packed(picture(20, 30))).size == (160, 240)


def test_formats_and_colours_are_as_asked_for() -> None:
    payload = packed(picture(), "PNG")
    assert opened(Image(format="webp"), payload, "webp").format == "WEBP"
    assert opened(Image(format="png", colour="grey"), payload, "png").mode == "L"
    assert opened(Image(), packed(picture().convert("L"))).mode == "RGB"
    small, large = (after(Image(quality=quality), payload) for quality in (30, 95))
    assert isinstance(small, Sample)
    assert isinstance(large, Sample)
    assert len(small.fields["jpg"]) < len(large.fields["jpg"]) / 2


def test_other_fields_and_the_record_stay_and_the_bytes_are_the_same_each_time() -> None:
    payload = packed(picture(), "PNG")
    first, second = (after(Image(), payload, "png", cls=b"3") for _ in range(2))
    assert isinstance(first, Sample)
    assert (set(first.fields), first.fields["cls"], first.record) == ({"jpg", "cls"}, b"3", {"url": "test:a"})
    assert first == second


@pytest.mark.parametrize("step", [Image(), ImageSize(), AspectRatio()])
def test_what_is_no_image_is_rejected_by_every_step_and_a_text_passes(step: Step) -> None:
    assert reason(step, b"<html>") == "not_an_image"
    assert reason(step, b"") == "empty"
    text = Sample("a", {"txt": b"words"})
    assert not step.applies_to(text)
    assert step(text) == text


def test_limits_of_size_and_shape() -> None:
    wide = packed(picture(400, 100))
    assert reason(ImageSize(min_short_side=101), wide) == "too_small"
    assert reason(ImageSize(min_long_side=401), wide) == "too_small"
    assert reason(ImageSize(max_short_side=99), wide) == "too_many_pixels"
    assert reason(ImageSize(max_long_side=399), wide) == "too_many_pixels"
    assert reason(ImageSize(max_megapixels=0.039), wide) == "too_many_pixels"
    assert reason(AspectRatio(maximum=3.9), wide) == "aspect_ratio"
    fitting = ImageSize(
        min_short_side=100, max_short_side=100, min_long_side=400, max_long_side=400, max_megapixels=0.04
    )
    assert isinstance(after(fitting, wide), Sample)
    assert isinstance(after(AspectRatio(maximum=4), wide), Sample)


def test_a_size_is_read_from_the_header_alone() -> None:
    assert isinstance(after(ImageSize(min_short_side=100), packed(picture(400, 100))[:1000]), Sample)


def test_a_thread_of_an_image_is_not_blown_up() -> None:
    payload = packed(Pillow.new("RGB", (20000, 2)), "PNG")
    assert reason(Image(mode="short_side", size=1000), payload) == "aspect_ratio"
    assert reason(Image(format="webp"), payload) == "aspect_ratio"
    assert reason(Image(max_megapixels=0.03), payload) == "too_many_pixels"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "image", "size": 64}, "mode 'keep' takes no size"),
        ({"name": "image", "mode": "pad"}, "mode 'pad' needs a size"),
        ({"name": "image", "mode": "shortside", "size": 3}, "mode: .*'short_side'"),
        ({"name": "image", "quality": 101}, "quality"),
        ({"name": "image_size", "min_short_side": 9, "max_short_side": 5}, "no image fits"),
        ({"name": "aspect_ratio", "maximum": 0.5}, "maximum"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(table: dict[str, Any], message: str, tmp_path: Any) -> None:
    source = {"name": "video_frames", "videos": ["*.mp4"]}
    with pytest.raises(RecipeError, match=message):
        parse({"corpus": "a", "source": source, "steps": [table]}, root=tmp_path)


def test_of_an_animation_the_first_frame_is_kept_with_their_number_or_it_is_rejected() -> None:
    frames = [Pillow.new("RGB", (20, 20), colour) for colour in ("blue", "red", "lime")]
    animation = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])
    sample = after(Image(), animation, "gif")
    assert isinstance(sample, Sample)
    assert sample.measures["frames"] == 3
    assert Pillow.open(io.BytesIO(sample.fields["jpg"])).getpixel((9, 9)) == (0, 0, 254)
    assert reason(Image(animated="reject"), animation) == "animated"
    still = after(Image(animated="reject"), packed(frames[0], "GIF"), "gif")
    assert isinstance(still, Sample)
    assert "frames" not in still.measures


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"reencode": "always", "colour": "grey"}),
        ("PNG", {"format": "png"}),
        ("PNG", {"mode": "short_side", "size": 500, "decoding": "exact"}),
        ("GIF", {"mode": "pad", "size": 2300, "colour": "grey"}),
    ],
)
def test_what_takes_much_memory_comes_out_of_a_decoder_process_as_it_would_here(
    form: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    payload, step, works = packed(picture(2100, 2000), form), Image(**options), list[str]()

    def noted(task: dict[str, Any], payload: bytes) -> Any:
        works.append(task["work"])
        return call(task, payload)

    here, call = after(step, payload), pool.call
    decoding._cache.last = None
    monkeypatch.setattr(budget, "MOST_HERE", 1000)
    monkeypatch.setattr(pool, "call", noted)
    assert after(step, payload) == here
    assert works == ["stoker.pipelines.steps.image:render_task"]


def test_what_a_recipe_asks_for_beyond_a_decoder_process_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    payload, step = packed(picture(300, 200), "PNG"), Image()
    here = after(step, payload)
    decoding._cache.last = None
    monkeypatch.setattr(budget, "MOST_HERE", 1000)
    monkeypatch.setattr(budget, "MEMORY", 2000)
    monkeypatch.setattr(pool, "call", None)
    assert after(step, payload) == here


def test_a_fault_of_an_image_that_is_made_in_a_decoder_process_is_its_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_HERE", 1000)
    payload = packed(picture(2100, 2000), "PNG")
    assert reason(Image(), payload[: len(payload) // 2]) == "truncated"
    assert reason(Image(mode="short_side", size=9000), payload) == "aspect_ratio"
