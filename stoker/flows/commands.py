"""One function a subcommand: it gets what was parsed, prints a result to stdout, and returns the exit code."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows import settings as where
from stoker.flows.settings import Settings, UsageError

if TYPE_CHECKING:
    from prefect.states import State

    from stoker.pipelines.recipe import Recipe
    from stoker.storage.manifest import Manifest
    from stoker.storage.store import Store

_FLAGS = ("home", "store", "runner", "workers")


def settings_of(arguments: Namespace, recipe: Path | None = None) -> Settings:
    """The settings of this call."""
    flags = {name: getattr(arguments, name, None) for name in _FLAGS}
    return where.load(flags, recipe=recipe)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def manifest_of(store: "Store", reference: str) -> "Manifest":
    """The version that was named."""
    from stoker.storage.manifest import load_manifest

    return load_manifest(store, reference)


def result_of(state: "State[Any]") -> Any:  # Any: what the flow returned
    """A flow's result, or its exception; a run that was asked to stop is an interrupted command."""
    if state.is_cancelled():
        raise KeyboardInterrupt
    return state.result()


def up_command(arguments: Namespace) -> int:
    """Start all services and watch them, or see them started in the background."""
    from stoker.flows import services
    from stoker.flows.up import addresses, up, up_detached

    own = settings_of(arguments)
    if arguments.detach:
        print(addresses(up_detached(own, _say)))
        _say("in the background; `stoker down` ends it")
    elif not up(own, _say):
        _say("`stoker up` is running already")
        print(addresses(services.load(own.home)))
    return 0


def down_command(arguments: Namespace) -> int:
    """End all services."""
    from stoker.flows.up import down

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

    own = settings_of(arguments, arguments.recipe)
    manifest, new = ingested(own, load(arguments.recipe))
    _print_version(manifest, new=new)
    return 0


def ingested(own: Settings, recipe: "Recipe") -> "tuple[Manifest, bool]":
    """The corpus as it is now, ingested with progress on this terminal, and whether that made a new version."""
    from stoker.flows import prefect_server, progress

    store = own.open_store()
    store.probe()
    with progress.watched(own.home) as board:
        board.phase("starting")
        board.blocking = True
        with prefect_server.connected(own) as url:
            from stoker.flows.ingest import ingest as flow

            board.blocking = False
            board.note(f"{recipe.corpus}: into {store.url}; watched at {url.removesuffix('/api')}")
            done = result_of(
                flow(dict(recipe.document), str(recipe.root), own.to_json(), board.token, return_state=True)
            )
    return manifest_of(store, done["reference"]), done["new"]


def _print_version(manifest: "Manifest", *, new: bool) -> None:
    from stoker.flows.wording import size_text

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
    from stoker.flows import schedule
    from stoker.pipelines.recipe import load

    own = settings_of(arguments, arguments.recipe)
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
        options = train_options(arguments.train, arguments.option)
        name = schedule.add_training(own, recipe.corpus, arguments.train, options)
        print(f"scheduled {name}: trains {arguments.train} on every new version of {recipe.corpus}")
    return 0


def _change_schedules(arguments: Namespace, own: Settings) -> int:
    from stoker.flows import schedule

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
