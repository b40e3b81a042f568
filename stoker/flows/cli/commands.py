"""One function a subcommand: it gets what was parsed, prints a result to stdout, and returns the exit code."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from stoker.flows.settings import Settings, UsageError
from stoker.flows.start import (
    check_training,
    flows,
    ingested,
    manifest_of,
    result_of,
    settings_of,
    trained,
)

if TYPE_CHECKING:
    from stoker.storage.versions.manifest import Manifest


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def up_command(arguments: Namespace) -> int:
    """Start all services and watch them, or see them started in the background."""
    from stoker.flows import running
    from stoker.flows.services.up import addresses, up, up_detached

    own = settings_of(arguments)
    if arguments.detach:
        print(addresses(up_detached(own, _say)))
        _say("in the background; `stoker down` ends it")
    elif not up(own, _say):
        _say("`stoker up` is running already")
        print(addresses(running.load(own.home)))
    return 0


def down_command(arguments: Namespace) -> int:
    """End all services."""
    from stoker.flows.services.up import down

    own = settings_of(arguments)
    _say(f"stopped; data stay in {own.home}" if down(own, _say) else "nothing was running")
    return 0


def check_command(arguments: Namespace) -> int:
    """Say what a recipe is made of, or what is wrong with it."""
    from stoker.pipelines.recipe import load
    from stoker.pipelines.registry import name_of

    settings_of(arguments, arguments.recipe)
    recipe = load(arguments.recipe)
    print(f"{arguments.recipe}: corpus {recipe.corpus}, source {name_of(recipe.source)}")
    print(f"steps: {', '.join(name_of(step) for step in recipe.steps) or 'none'}")
    print(f"rules: {', '.join(name_of(rule) for rule in recipe.rules) or 'none'}")
    print(f"splits: {', '.join(f'{name} {percent:g} %' for name, percent in recipe.splits.items())}")
    return 0


def ingest_command(arguments: Namespace) -> int:
    """Make a version of a recipe's corpus."""
    from stoker.pipelines.recipe import load

    manifest, new = ingested(settings_of(arguments, arguments.recipe), load(arguments.recipe))
    _print_version(manifest, new=new)
    return 0


def _print_version(manifest: "Manifest", *, new: bool) -> None:
    from stoker.flows.report.format import size_text

    splits = ", ".join(f"{name} {one.samples:,}" for name, one in manifest.splits.items())
    print(f"{manifest.reference}: {manifest.samples:,} samples ({splits}), {size_text(manifest.size)}")
    refused = ", ".join(f"{reason} {count:,}" for reason, count in sorted(manifest.rejected.items()))
    if refused:
        print(f"left out of {manifest.read:,}: {refused}")
    if not new:
        _say("nothing changed since this version, so no new one was made")
    _say(f"next: stoker show {manifest.reference}")


def schedule_command(arguments: Namespace) -> int:
    """Schedule a recipe, or see and change what is scheduled."""
    if arguments.list or arguments.pause or arguments.resume or arguments.remove:
        return _change_schedules(arguments, settings_of(arguments))
    from stoker.pipelines.recipe import load

    own = settings_of(arguments, arguments.recipe)
    _enter_prefect(own)
    from stoker.flows.services import schedule

    if arguments.recipe is None:
        raise UsageError("schedule: name a RECIPE, or one of --list, --pause, --resume, --remove")
    recipe = load(arguments.recipe)
    if arguments.cron and arguments.interval:
        raise UsageError("schedule: --cron and --interval exclude each other")
    cron = arguments.cron or ("" if arguments.interval else recipe.schedule.cron)
    if not cron and not arguments.interval and not arguments.train:
        raise UsageError("schedule: say when, with --cron, --interval or [schedule] cron in the recipe")
    if cron or arguments.interval:
        zone = arguments.timezone or recipe.schedule.timezone
        when = schedule.timetable(cron=cron, interval=arguments.interval or "", timezone=zone)
        print(f"scheduled {schedule.add_ingest(own, recipe, when)}: {schedule.words(when)}")
    if arguments.train:
        options = _options(arguments)
        check_training(arguments.train, options)
        name = schedule.add_training(own, recipe.corpus, arguments.train, options)
        print(f"scheduled {name}: trains {arguments.train} on every new version of {recipe.corpus}")
    return 0


def _enter_prefect(settings: Settings) -> None:
    """Before Prefect is imported: it must not read the set-up that a user may have for other work."""
    from stoker.flows.services import prefect_server

    prefect_server.enter(settings, prefect_server.known_url(settings) or "")


def _change_schedules(arguments: Namespace, own: Settings) -> int:
    _enter_prefect(own)
    from stoker.flows.services import schedule

    if arguments.list:
        table = schedule.scheduled(own)
        for one in table:
            state = "paused" if one.paused else f"next {one.next_run}" if one.next_run else "waiting"
            print(f"{one.name:<20} {one.runs:<7} {one.when:<28} {state}  {one.last_run and f'last {one.last_run}'}")
        if not table:
            _say('nothing is scheduled; stoker schedule RECIPE --cron "0 3 * * *"')
    elif arguments.remove:
        schedule.remove(own, arguments.remove)
        print(f"removed {arguments.remove}; what it published stays")
    else:
        name = arguments.pause or arguments.resume
        schedule.pause(own, name, paused=bool(arguments.pause))
        print(f"{'paused' if arguments.pause else 'resumed'} {name}")
    return 0


def verify_command(arguments: Namespace) -> int:
    """Read a version again."""
    from rich.console import Console

    from stoker.flows.cli.show import verified

    own = settings_of(arguments)
    reference = manifest_of(own.open_store(), arguments.corpus).reference
    with flows(own) as (board, _):
        from stoker.flows.verify import Damaged, verify
        from stoker.storage.verification.verify import Verified

        state = verify(reference, own.to_json(), board.token, return_state=True)
    try:
        done = result_of(state)
    except Damaged as error:
        verified(error.found, reference, Console())
        return 1
    verified(Verified(done["shards"], done["samples"], done["size"], ()), reference, Console())
    return 0


def _options(arguments: Namespace) -> dict[str, str]:
    """The options of a training, from its own flags and from --set."""
    found = {
        name.removeprefix("option_"): value for name, value in vars(arguments).items() if name.startswith("option_")
    }
    chosen = {name: value for name, value in found.items() if value is not None}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text}: expected NAME=VALUE, for example --set width=32")
        chosen[name] = value
    return chosen


def train_command(arguments: Namespace) -> int:
    """Train a model on a version."""
    from stoker.flows.report.format import paragraphs

    own = settings_of(arguments)
    done = trained(own, arguments.model, arguments.corpus, _options(arguments), resume=arguments.resume)
    from stoker.flows.train import metrics_text

    what = f"{done['run']}: {arguments.model} on {done['reference']}, {done['steps']:,} steps"
    print(f"{what}: {metrics_text(done['metrics'])}")
    if done["sample"]:
        print(paragraphs(done["sample"]))
    _say(f"metrics: {done['folder']} (metrics.jsonl, TensorBoard)")
    return 0


def demo_command(arguments: Namespace) -> int:
    """The whole road on real input."""
    from stoker.flows.demo import run

    return run(settings_of(arguments))
