"""`stoker evaluate`: what a trained model comes to on a split of a version."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.private import make_private
from stoker.flows.progress import terminal_progress
from stoker.flows.report.format import number_text, percent_text
from stoker.flows.report.terminal import WIDTH, Sheet
from stoker.flows.start import load_settings, require_torch
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import load_manifest
from stoker.training.results.evaluations import confused_pairs

if TYPE_CHECKING:
    from stoker.training.results.evaluations import Evaluation

_MAX_PAIRS = 10  # classes that are taken for each other
_MAX_CLASSES = 40  # rows of recall
_SHOWN_WRONG = 10


def evaluate(arguments: Namespace) -> int:
    """Evaluate, keep the result beside the run, print it."""
    settings = load_settings(arguments)
    store = with_patience(settings.open_store(), settings.patience_s)
    manifest = load_manifest(store, arguments.corpus)
    make_private(settings.home)
    with require_torch():
        from stoker.training.results import evaluations
        from stoker.training.stream.subset import describe_left_out
        from stoker.training.trained.evaluate import evaluate as run_evaluation
        from stoker.training.trained.load import load_trained
    with terminal_progress(settings.home) as reporter, reporter.interrupts():
        reporter.start_phase("reading the model")
        trained = load_trained(
            store,
            arguments.run_name,
            near=manifest.corpus,
            checkpoint=arguments.checkpoint,
            device=arguments.device,
            network=arguments.network,
        )

        def show(samples: int, of: int) -> None:
            reporter.start_phase(f"{trained.name} on {manifest.reference}", of, samples)

        found = run_evaluation(
            trained,
            store,
            manifest,
            split=arguments.split,
            cache=settings.home / "cache",
            batch_size=arguments.batch_size,
            skip_budget=arguments.skip_budget,
            progress=show,
        )
        key = evaluations.keep(store, found)
    if arguments.json:
        print_json(found.to_json())
    else:
        _print(found, Console())
    for sentence in [*describe_left_out(found.left_out), *found.remarks()]:
        note(sentence)
    note(f"kept as {store.url}/{key}")
    return 0


def _print(found: "Evaluation", console: Console) -> None:
    sheet, metrics = Sheet(console), found.metrics
    sheet.title(
        f"{found.corpus}/{found.run} on {found.reference}, split {found.split}",
        f"step {found.step:,}, trained on {found.trained_on}",
    )
    numbers = [(name, value) for name, value in metrics.items() if isinstance(value, int | float) and name != "score"]
    sheet.facts([(name.replace("_", " "), _number(name, value)) for name, value in numbers])
    if "recall" in metrics:
        _print_classes(sheet, metrics["classes"], metrics, width=min(console.width, WIDTH))


def _number(name: str, value: float) -> str:
    return percent_text(value) if name == "accuracy" else number_text(value)


def _print_classes(
    sheet: Sheet, classes: Sequence[str], metrics: Mapping[str, Any], *, width: int
) -> None:  # Any: JSON values
    """Recall by class, worst first; the confusion matrix where it fits, else the pairs; confident mistakes."""
    confusion, recall = metrics.get("confusion", ()), metrics["recall"]  # no matrix of many classes
    totals = {name: number_text(sum(row)) for name, row in zip(classes, confusion, strict=False)}
    sheet.heading("Recall by class")
    worst = sorted(recall, key=lambda name: (recall[name], name))
    rows = [
        (name, percent_text(recall[name]), totals.get(name, ""), sheet.bar(recall[name], 20))
        for name in worst[:_MAX_CLASSES]
    ]
    sheet.table(("class…", "recall>", "samples>" if totals else ">", ""), rows)
    if len(worst) > _MAX_CLASSES:
        sheet.note(f"and {len(worst) - _MAX_CLASSES:,} classes with greater recall")
    pairs = confused_pairs(metrics)
    if pairs:
        cells = [[str(count) if count else "·" for count in row] for row in confusion]
        if cells and matrix_width(classes, cells) <= width:
            sheet.heading("Confusion: rows are the class, columns what the model said")
            heads = ("", *(f"{name}>" for name in classes))
            sheet.table(heads, [(name, *row) for name, row in zip(classes, cells, strict=True)])
        else:
            sheet.heading("Taken for another class, most often")
            named = [(expected, predicted, number_text(count)) for expected, predicted, count in pairs[:_MAX_PAIRS]]
            sheet.table(("class…", "taken for…", "samples>"), named)
    if metrics.get("wrong"):
        sheet.heading("Most confidently wrong")
        shown = metrics["wrong"][:_SHOWN_WRONG]
        wrong = [
            (one["key"], one["expected"], one["predicted"], percent_text(one["probability"]), one.get("url", ""))
            for one in shown
        ]
        sheet.table(("key…", "class…", "said…", "sure>", "URL*"), wrong)
        if hidden := len(metrics["wrong"]) - len(shown):
            sheet.note(f"and {hidden} more: --json, or the page")


def matrix_width(classes: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The columns of text that a confusion matrix takes, with two between its own."""
    columns = [max(len(name), *(len(row[number]) for row in cells)) for number, name in enumerate(classes)]
    return 2 + max(map(len, classes)) + sum(2 + column for column in columns) + 2
