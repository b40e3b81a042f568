"""`stoker stream`: print samples in the order of training, or measure how fast they can be fed, and to what."""

import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stoker.flows import logs
from stoker.flows.cli.output import print_json
from stoker.flows.private import make_private
from stoker.flows.progress import terminal_progress
from stoker.flows.report.format import percent_text, size_text, visible
from stoker.flows.report.terminal import Sheet
from stoker.flows.start import load_settings, require_torch
from stoker.storage.plural import plural
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import load_manifest

if TYPE_CHECKING:
    from stoker.training.feeding.compare import Comparison
    from stoker.training.loader.bench import BenchResult, Stage
    from stoker.training.stream.stream import ShardStream

_LIMITS = {
    "reading": "reading: a faster store, a warm cache or more workers help",
    "making": "decoding: more cores and workers help, or smaller images in the corpus",
    "hand-over": "the hand-over between workers and loop: larger batches help",
}


def stream(arguments: Namespace) -> int:
    """Print samples in their order, or measure. Exit code 1 when --rate or --like cannot be fed."""
    settings = load_settings(arguments)
    store = with_patience(settings.open_store(reading=True), settings.patience_s)  # for manifest and lists too
    manifest = load_manifest(store, arguments.corpus)
    split = arguments.split or ("train" if "train" in manifest.splits else next(iter(manifest.splits), "train"))
    make_private(settings.home)
    with require_torch():
        from stoker.training.stream.stream import ShardStream

        shards = ShardStream(
            store,
            manifest,
            split,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            shuffle=not arguments.stored_order,
            window=arguments.window,
            cache=settings.home / "cache",
        )
    try:
        if arguments.bench or arguments.rate or arguments.like:
            return _bench(shards, settings.home, arguments)
        return _print(shards, arguments)
    finally:
        shards.close()


def _print(stream: "ShardStream", arguments: Namespace) -> int:
    """Print a line for each sample: position, key, shard and size; with --json, its record too."""
    from stoker.training.stream.withdrawn import live_slots

    remaining = arguments.limit or stream.samples
    for start in range(0, stream.samples, stream.batch_size):
        samples = stream.batch(0, start)
        slots = live_slots(0, stream.locate(0, start, min(stream.samples, start + stream.batch_size)))
        about = zip(slots, samples.keys, samples.sizes, samples.shards, strict=True)
        for row, (slot, key, size, shard) in enumerate(about):
            if not remaining:
                return 0
            remaining -= 1
            if arguments.json:
                line: dict[str, Any] = {"position": start + slot, "key": key, "shard": shard, "size": size}
                print_json(line | {"record": samples[row].record}, line=True)
            else:
                name = visible(key, most=60 if sys.stdout.isatty() else 0)
                print(f"{start + slot:>10,}  {name}  {visible(shard.rpartition('/')[2])}  {size_text(size)}")
    return 0


def _bench(stream: "ShardStream", home: Path, arguments: Namespace) -> int:
    """Measure, print the result and, with --rate or --like, the verdict."""
    from stoker.training.feeding.compare import Comparison
    from stoker.training.loader.bench import measure

    images = _decodes_images(stream)
    if images:
        from dataclasses import replace

        from stoker.training.pictures.pictures import PictureMaker

        stream = replace(stream, make=PictureMaker(arguments.size))
    with terminal_progress(home) as reporter:
        reporter.start_phase(f"{stream.manifest.reference}: measuring")
        measured = measure(
            stream,
            workers=arguments.workers,
            seconds=arguments.seconds,
            on_stage=lambda stage: reporter.start_phase(f"{stream.manifest.reference}: {stage}"),
            stop=reporter.stop_requested.is_set,
        )
        compared: list[Comparison] = []
        if arguments.like and not reporter.stop_requested.is_set():
            from stoker.training.feeding.compare import compare

            reporter.start_phase(f"{stream.manifest.reference}: like {arguments.like}")
            compared = compare(
                stream,
                arguments.like,
                rate=measured.rate,
                size=arguments.size,
                workers=arguments.workers,
                seconds=arguments.seconds / 3,
                stop=reporter.stop_requested.is_set,
            )
        if reporter.stop_requested.is_set():
            raise KeyboardInterrupt("no measurement was completed")
    if arguments.json:
        print_json(_json(measured, arguments.rate, compared))
    else:
        _print_measured(measured, Console(), f"random crops of {arguments.size} px" if images else "fields as they are")
    for one in compared:
        _tell_comparison(one, measured)
    refused = not all(one.feeds for one in compared)
    if arguments.rate and measured.rate >= arguments.rate:
        logs.note(f"feeds {arguments.rate:,.0f} samples/s: yes, up to {measured.rate:,.0f}")
    elif arguments.rate:
        logs.error(f"cannot feed {arguments.rate:,.0f} samples/s: {_shortage(measured, arguments.rate)}")
        refused = True
    return int(refused)


def _tell_comparison(compared: "Comparison", measured: "BenchResult") -> None:
    """Tell whether a network is fed, the ratio, and the stall that it would have, or had."""
    consumer = compared.consumption
    text = f"{consumer.network} on {consumer.device} ({consumer.samples_per_s:,.4g} samples/s; {consumer.source})"
    if compared.feeds:
        logs.note(f"feeds {text}: yes, {compared.ratio:,.3g} times as fast")
    else:
        logs.error(
            f"cannot feed {text}: {compared.ratio:.3g} of it, and it would wait {percent_text(compared.stall)} of its "
            f"time; {_shortage(measured, consumer.samples_per_s)}"
        )
    if compared.fed is not None and compared.fed_stall is not None:
        idle = "not known" if compared.fed.idle is None else percent_text(compared.fed.idle)
        logs.note(
            f"fed to it here: {compared.fed.samples_per_s:,.0f} samples/s; it was idle {idle} of the time by its own "
            f"events, and {percent_text(compared.fed_stall)} by its rate on one batch again and again"
        )


def _decodes_images(stream: "ShardStream") -> bool:
    from stoker.training.pictures.pictures import IMAGE_FIELDS

    return bool(set(IMAGE_FIELDS) & set(stream.batch(0, 0).extensions))


def _shortage(measured: "BenchResult", rate: float) -> str:
    slowest = measured.reading if measured.limit == "reading" or measured.making is None else measured.making
    limit = _LIMITS[measured.limit]
    cores = slowest.needs(rate)
    return (
        f"{measured.rate:,.0f} is the most; limited by {limit}; at {slowest.cpu_ms:.3g} ms of processor time for 1,000 "
        f"it needs {plural(math.ceil(cores), 'core')}, and there are {measured.cores}"
    )


def _print_measured(measured: "BenchResult", console: Console, fed: str) -> None:
    sheet = Sheet(console)
    sheet.title(
        f"{measured.reference}, split {measured.split}",
        f"{plural(measured.samples, 'sample')} of {size_text(measured.sample_bytes)}",
    )
    sheet.say(
        f"batches of {measured.batch_size}, {fed}; {plural(measured.workers, 'worker')} on "
        f"{plural(measured.cores, 'core')}; first batch after {measured.first_batch_s * 1000:,.0f} ms"
    )
    stages = [stage for stage in (measured.reading, measured.making, measured.loading) if stage is not None]
    sheet.table(("", "samples/s>", "bytes/s>", "CPU ms per 1,000>"), [_row(stage) for stage in stages])
    if "cache_hits" in measured.seen:
        sheet.say(f"shards found on this machine: {percent_text(measured.seen['cache_hits'])}")
    if measured.shuffle is not None:
        sheet.say(f"shuffle: {measured.shuffle.describe()}")
    sheet.say(f"limited by {_LIMITS[measured.limit]}")


def _row(stage: "Stage") -> tuple[str, str, str, str]:
    names = {"reading": "reading alone", "making": "decoding alone, one core", "loading": "all together"}
    return names[stage.name], f"{stage.samples_per_s:,.0f}", f"{size_text(stage.bytes_per_s)}/s", f"{stage.cpu_ms:,.1f}"


def _json(
    measured: "BenchResult", rate: float | None, compared: list["Comparison"]
) -> dict[str, Any]:  # Any: JSON values
    import dataclasses

    content = dataclasses.asdict(measured) | {"rate": measured.rate, "limit": measured.limit}
    content |= {"asked_rate": rate, "feeds": measured.rate >= rate} if rate else {}
    return content | ({"like": [dataclasses.asdict(one) for one in compared]} if compared else {})
