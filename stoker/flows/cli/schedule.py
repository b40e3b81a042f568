"""`stoker schedule`: run a recipe at set times, train on each new version; list, pause, resume, remove schedules."""

import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stoker.flows import start
from stoker.flows.cli.commands import training_options
from stoker.flows.report.format import visible
from stoker.flows.schedules import environment
from stoker.flows.schedules.timetable import Timetable, parse_timetable
from stoker.flows.settings import Settings, UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from stoker.pipelines.recipe import Recipe


def schedule(arguments: Namespace) -> int:
    """Schedule a recipe, or show and change schedules."""
    if arguments.list or arguments.pause or arguments.resume or arguments.remove:
        return _change_schedules(arguments, load_settings(arguments))
    if arguments.recipe is None:
        raise UsageError("schedule: name a RECIPE, or one of --list, --pause, --resume, --remove")
    settings = load_settings(arguments, arguments.recipe)
    plan = _check(arguments, settings)
    _point_at_prefect(settings)
    from stoker.flows.services import schedule as schedules

    if plan.timetable is not None:
        name = schedules.add_ingest(settings, plan.recipe, plan.timetable, trusted=arguments.trust)
        print(f"scheduled {name}: {plan.timetable}")
    if arguments.train:
        name = schedules.add_training(settings, plan.recipe.corpus, arguments.train, plan.options)
        print(f"scheduled {name}: trains {arguments.train} on every new version of {plan.recipe.corpus}")
    return 0


@dataclass(frozen=True)
class _Plan:
    """What is to be scheduled."""

    recipe: "Recipe"
    timetable: Timetable | None  # None: no ingest
    options: dict[str, str]  # of the training


def _check(arguments: Namespace, settings: Settings) -> _Plan:
    """Check all that a scheduled run needs, before Prefect is told anything. Raises StokerError."""
    from stoker.pipelines.recipe import load

    if arguments.cron and arguments.interval:
        raise UsageError("schedule: --cron and --interval exclude each other")
    if arguments.set and not arguments.train:
        raise UsageError("schedule: --set is an option of the training; name its model with --train")
    options = training_options(arguments)
    recipe = load(arguments.recipe)
    cron = arguments.cron or ("" if arguments.interval else recipe.schedule.cron)
    if not cron and not arguments.interval and not arguments.train:
        raise UsageError("schedule: say when, with --cron, --interval or [schedule] cron in the recipe")
    timetable = None
    if cron or arguments.interval:
        timezone = arguments.timezone or recipe.schedule.timezone
        timetable = parse_timetable(cron=cron, interval=arguments.interval or "", timezone=timezone)
    if arguments.train:
        start.check_training(arguments.train, options)
    start.check_trust(settings, recipe, trusted=arguments.trust)
    start.check_source(recipe, settings.context(recipe.root, trusted=arguments.trust), str(arguments.recipe))
    _check_services(settings)
    _check_store(settings, recipe.corpus)
    return _Plan(recipe, timetable, options)


def _check_services(settings: Settings) -> None:
    """Raise StokerError unless the scheduler that will run the schedule is there and can."""
    from stoker.flows.services import prefect_server

    if prefect_server.known_api(settings) is None:
        raise StokerError(
            f"`stoker up` is not running ({settings.home}), and it is what runs schedules; start it first"
        )
    for line in environment.check(settings):
        print(visible(line), file=sys.stderr)


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
    _point_at_prefect(settings)
    from stoker.flows.services import schedule as schedules

    if arguments.list:
        rows = schedules.list_schedules(settings)
        for row in rows:
            state = "paused" if row.paused else f"next {row.next_run}" if row.next_run else "waiting"
            print(f"{row.name:<20} {row.flow:<7} {row.when:<28} {state}  {row.last_run and f'last {row.last_run}'}")
        if not rows:
            print('nothing is scheduled; stoker schedule RECIPE --cron "0 3 * * *"', file=sys.stderr)
    elif arguments.remove:
        schedules.remove(settings, arguments.remove)
        print(f"removed {arguments.remove}; what it published stays")
    else:
        name = arguments.pause or arguments.resume
        schedules.pause(settings, name, paused=bool(arguments.pause))
        print(f"{'paused' if arguments.pause else 'resumed'} {name}")
    return 0
