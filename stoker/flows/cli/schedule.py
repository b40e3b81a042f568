"""`stoker schedule`: run a recipe at set times, train on each new version; list, pause, resume, remove schedules."""

import os
import sys
from argparse import Namespace

from stoker.flows import start
from stoker.flows.cli.commands import training_options
from stoker.flows.settings import Settings, UsageError
from stoker.flows.start import load_settings


def schedule(arguments: Namespace) -> int:
    """Schedule a recipe, or show and change schedules."""
    if arguments.list or arguments.pause or arguments.resume or arguments.remove:
        return _change_schedules(arguments, load_settings(arguments))
    from stoker.pipelines.recipe import load

    if arguments.recipe is None:
        raise UsageError("schedule: name a RECIPE, or one of --list, --pause, --resume, --remove")
    settings = load_settings(arguments, arguments.recipe)
    recipe = load(arguments.recipe)
    start.check_trust(settings, recipe, trusted=arguments.trust)
    _point_at_prefect(settings)
    from stoker.flows.services import schedule as schedules

    if arguments.cron and arguments.interval:
        raise UsageError("schedule: --cron and --interval exclude each other")
    cron = arguments.cron or ("" if arguments.interval else recipe.schedule.cron)
    if not cron and not arguments.interval and not arguments.train:
        raise UsageError("schedule: say when, with --cron, --interval or [schedule] cron in the recipe")
    if cron or arguments.interval:
        timezone = arguments.timezone or recipe.schedule.timezone
        timetable = schedules.parse_timetable(cron=cron, interval=arguments.interval or "", timezone=timezone)
        name = schedules.add_ingest(settings, recipe, timetable, trusted=arguments.trust)
        print(f"scheduled {name}: {schedules.timetable_text(timetable)}")
    if arguments.train:
        options = training_options(arguments)
        start.check_training(arguments.train, options)
        name = schedules.add_training(settings, recipe.corpus, arguments.train, options)
        print(f"scheduled {name}: trains {arguments.train} on every new version of {recipe.corpus}")
    return 0


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
