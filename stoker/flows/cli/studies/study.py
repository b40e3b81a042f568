"""`stoker study`: what methods of learning reach on a corpus, claim by claim."""

from argparse import Namespace
from typing import TYPE_CHECKING

from rich.console import Console

from stoker.flows import progress, signals
from stoker.flows.cli.output import print_json
from stoker.flows.cli.studies.tables import print_study
from stoker.flows.private import make_private
from stoker.flows.report.studies import study_json
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings, require_torch

if TYPE_CHECKING:
    from stoker.training.studies.study import Progress


def study(arguments: Namespace) -> int:
    """Measure the claims on a version. 0 whether they hold or not: what was found is the result."""
    settings = load_settings(arguments)
    store = settings.open_store()
    make_private(settings.home)
    signals.set_next_step("what was measured is kept; the same command measures the rest")
    with require_torch():
        from stoker.storage.versions.manifest import load_manifest
        from stoker.training.studies.study import UnknownName
        from stoker.training.studies.study import study as measure

        manifest = load_manifest(store, arguments.corpus)
        with progress.terminal_progress(settings.home) as reporter:
            reporter.start_phase(f"reading {manifest.reference}")

            def show(event: "Progress") -> None:
                if not event.runs:
                    reporter.message(event.text)
                elif not event.text:
                    reporter.start_phase(f"study of {manifest.reference}", event.runs, event.done)
                else:
                    reporter.advance_to(event.done, event.text)

            try:
                with reporter.interrupts():
                    found = measure(
                        store,
                        manifest,
                        quick=arguments.quick,
                        only=arguments.only,
                        seeds=arguments.seeds,
                        split=arguments.split,
                        eval_split=arguments.eval_split,
                        hold_out=arguments.hold_out,
                        workers=arguments.workers,
                        cache=settings.home / "cache",
                        progress=show,
                    )
            except UnknownName as error:
                raise UsageError(f"{error}") from None
    if arguments.json:
        print_json(study_json(found))
    else:
        print_study(found, Console(), only=arguments.only)
    return 0
