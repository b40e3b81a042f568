"""`stoker schedule`: run a recipe at set times, train on each new version; list, pause, resume, remove schedules."""

import json
import os
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.flows import start
from stoker.flows.cli.commands import check_can_refresh, training_options
from stoker.flows.logs import note
from stoker.flows.schedules import environment
from stoker.flows.schedules.parameters import Retries
from stoker.flows.schedules.timetable import Timetable, parse_interval, parse_timetable
from stoker.flows.settings import Settings, UsageError
from stoker.flows.start import load_settings
from stoker.storage.plural import plural

if TYPE_CHECKING:
    from stoker.flows.schedules.overview import ScheduleRow
    from stoker.flows.services.schedule import Scheduled
    from stoker.pipelines.recipe import Recipe


def schedule(arguments: Namespace) -> int:
    """Schedule a recipe, or show and change schedules."""
    if arguments.list or arguments.pause or arguments.resume or arguments.remove:
        return _change_schedules(arguments, load_settings(arguments))
    if arguments.recipe is None:
        raise UsageError("schedule: name a RECIPE, or one of --list, --pause, --resume, --remove")
    if arguments.json:
        raise UsageError("schedule: --json goes with --list")
    settings = load_settings(arguments, arguments.recipe)
    plan = _check(arguments, settings)
    _point_at_prefect(settings)
    from stoker.flows.services import schedule as schedules

    notify = schedules.Notify(plan.notify, arguments.notify_versions)
    if plan.timetable is not None:
        result = schedules.add_ingest(
            settings,
            plan.path,
            plan.recipe,
            plan.timetable,
            trusted=arguments.trust,
            retries=plan.retries,
            notify=notify,
            refresh_older_s=plan.refresh_older_s,
        )
        _print_scheduled(result, str(plan.timetable))
    if arguments.train:
        corpus = plan.recipe.corpus
        result = schedules.add_training(
            settings, corpus, arguments.train, plan.options, retries=plan.retries, notify=notify
        )
        _print_scheduled(result, f"trains {arguments.train} on every new version of {corpus}")
    return 0


def _print_scheduled(result: "Scheduled", text: str) -> None:
    print(f"scheduled {result.name}: {text}")
    if result.paused:
        note(f"{result.name} stays paused; stoker schedule --resume {result.name}")


@dataclass(frozen=True)
class _Plan:
    """What is to be scheduled."""

    path: Path  # absolute
    recipe: "Recipe"
    retries: Retries
    notify: tuple[str, ...] | None  # None: as before
    timetable: Timetable | None  # None: no ingest
    options: dict[str, str]  # of the training
    refresh_older_s: int | None = None  # see ``parameters.for_ingest``


def _check(arguments: Namespace, settings: Settings) -> _Plan:
    """Check all that a scheduled run needs, before Prefect is told anything. Raises StokerError."""
    from stoker.pipelines.recipe import load

    if arguments.cron and arguments.interval:
        raise UsageError("schedule: --cron and --interval exclude each other")
    if arguments.set and not arguments.train:
        raise UsageError("schedule: --set is an option of the training; name its model with --train")
    options = training_options(arguments)
    recipe = load(arguments.recipe, only_ours=True)
    cron = arguments.cron or ("" if arguments.interval else recipe.schedule.cron)
    if not cron and not arguments.interval and not arguments.train:
        raise UsageError("schedule: say when, with --cron, --interval or [schedule] cron in the recipe")
    timetable = None
    if cron or arguments.interval:
        timezone = arguments.timezone or recipe.schedule.timezone
        timetable = parse_timetable(cron=cron, interval=arguments.interval or "", timezone=timezone)
    if arguments.train and ":" in arguments.train:
        raise UsageError(f"schedule: --train {arguments.train}: networks of your own are trained by `stoker train`")
    refreshed = _refresh_older_s(arguments, recipe, timetable)
    if arguments.train:
        start.check_training(arguments.train, options)
    start.check_trust(settings, recipe, trusted=arguments.trust)
    start.check_source(recipe, settings.context(recipe.root, trusted=arguments.trust), str(arguments.recipe))
    _check_services(settings)
    _check_store(settings, recipe.corpus)
    path = Path(os.path.abspath(arguments.recipe))  # a link stays one: the owner may point it elsewhere
    return _Plan(path, recipe, _retries(arguments, recipe), _notify(arguments), timetable, options, refreshed)


def _refresh_older_s(arguments: Namespace, recipe: "Recipe", timetable: Timetable | None) -> int | None:
    """What --refresh and --older-than say. Raises UsageError."""
    from stoker.flows.cli.gc import seconds_of

    if not arguments.refresh:
        if arguments.older_than is not None:
            raise UsageError("schedule: --older-than: it says how kept samples are asked for again; add --refresh")
        return None
    if timetable is None:
        raise UsageError("schedule: --refresh: it goes with a schedule of ingests; say when with --cron or --interval")
    check_can_refresh(recipe, "schedule")
    return round(seconds_of(arguments.older_than or "0s"))


def _notify(arguments: Namespace) -> tuple[str, ...] | None:
    """The URLs of notices, checked; () for --notify none, None if the flag was not given. Raises NoticeError."""
    if arguments.notify is None:
        return None
    if arguments.notify == ["none"]:
        return ()
    from stoker.flows.schedules import notices

    for url in arguments.notify:
        notices.check(url)
    return tuple(arguments.notify)


def _retries(arguments: Namespace, recipe: "Recipe") -> Retries:
    """How failed runs are tried again: flags before the recipe. Raises RecipeError."""
    count = recipe.schedule.retries if arguments.retries is None else arguments.retries
    return Retries(count, round(parse_interval(arguments.retry_wait or recipe.schedule.retry_wait)))


def _check_services(settings: Settings) -> None:
    """Raise StokerError unless the scheduler that will run the schedule is there and can."""
    from stoker.flows.services import prefect_server

    prefect_server.scheduling_api(settings)
    for line in environment.check(settings):
        note(line)


def _check_store(settings: Settings, corpus: str) -> None:
    """Read from the store, with a real request. Raises StorageError."""
    from stoker.storage.stores.urls import check_access
    from stoker.storage.versions import catalog

    store = settings.open_store()
    check_access(store)
    catalog.versions(store, corpus)


def _point_at_prefect(settings: Settings) -> None:
    """Set Prefect's variables before its first import: it must not read the user's set-up for other work.

    Nor files of the working directory, which is left for good: paths are absolute by now.
    """
    from stoker.flows.services import prefect_server

    os.chdir("/")
    prefect_server.enter(settings, prefect_server.known_api(settings) or prefect_server.Api(""))


def _change_schedules(arguments: Namespace, settings: Settings) -> int:
    if arguments.list:
        return _list(arguments, settings)
    _point_at_prefect(settings)
    from stoker.flows.services import schedule as schedules

    if arguments.remove:
        if ended := schedules.remove(settings, arguments.remove):
            note(f"{plural(ended, 'run')} of it {'was' if ended == 1 else 'were'} ended")
        print(f"removed {arguments.remove}; what it published stays")
    else:
        name = arguments.pause or arguments.resume
        schedules.pause(settings, name, paused=bool(arguments.pause))
        print(f"{'paused' if arguments.pause else 'resumed'} {name}")
    return 0


def _list(arguments: Namespace, settings: Settings) -> int:
    """Print the schedules, each with its last result and what is wrong with it."""
    from stoker.flows.schedules import overview
    from stoker.flows.schedules.api import Reader
    from stoker.flows.services import prefect_server

    api = prefect_server.scheduling_api(settings)
    found = overview.read(settings, Reader(api.url, api.auth))
    if arguments.json:
        print(json.dumps([asdict(row) for row in found.schedules], indent=1))
    elif not found.schedules:
        note('nothing is scheduled; stoker schedule RECIPE --cron "0 3 * * *"')
    else:
        for row in found.schedules:
            print("\n".join(_lines(row)))
    return 0


def _lines(row: "ScheduleRow") -> list[str]:
    if row.paused:
        state = "paused"
    else:
        state = "running" if row.running else f"next {_moment(row.next_run)}" if row.next_run else "waiting"
    lines = [f"{row.name:<20} {row.flow:<7} {row.when:<28} {state}"]
    for word, outcome in (("last", row.last), ("then", row.then)):
        if outcome is not None:
            reason = f": {outcome.reason}" if outcome.reason else ""
            lines.append(f"  {word} {outcome.state} {_moment(outcome.at)}{reason}")
    if row.problem:
        lines.append(f"  cannot run: {row.problem}")
    if row.warning:
        lines.append(f"  warning: {row.warning}")
    return lines


def _moment(iso: str) -> str:
    """A time in the schedule's zone, with its distance from UTC.

    >>> _moment("2026-11-27T03:00:00+09:00")
    '2026-11-27 03:00 +09:00'
    """
    return f"{iso[:10]} {iso[11:16]} {iso[19:]}" if iso else ""
