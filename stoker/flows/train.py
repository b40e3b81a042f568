"""The flow `train`: train a model on a version; checkpoints in the store let it stop and resume anywhere."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from stoker.flows import artifacts, progress, runs, signals
from stoker.flows.report.format import number_text, percent_text
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError
from stoker.storage.plural import plural
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import load_manifest

if TYPE_CHECKING:
    from stoker.training.run.train import Event, Result


@flow(name="train", flow_run_name="{model} on {corpus}", persist_result=False, validate_parameters=False)
def train(
    model: str,
    corpus: str,
    options: dict[str, str],
    settings: dict[str, Any],  # Any: JSON values
    token: str = "",
    resume: bool = False,
) -> "dict[str, Any] | State[Any]":  # Any: JSON values
    """Train a model on a version (``digits@2``, or the newest of ``digits``) with options by name.

    Returns the run's result, or the state Cancelled when it was asked to stop: it saved a checkpoint then and can be
    resumed. Raises StokerError.
    """
    from stoker.training.run.train import train as run_training

    if not token and ":" in model:  # code of a file that may be another by then
        raise StokerError(f"{model}: networks of your own are trained by `stoker train`, not by a schedule")
    parsed_settings = Settings.from_json(settings)
    home = parsed_settings.home
    runs.record(home, token, flow_run.id)
    with progress.stoppable(home, token) as own_token:
        reporter = progress.find_reporter(own_token)
        try:
            with reporter.interrupts():
                store = with_patience(parsed_settings.open_store(), parsed_settings.patience_s)
                manifest = load_manifest(store, corpus)
                shown = _TrainingProgress(reporter, manifest.corpus, model)
            result = run_training(
                store,
                manifest,
                model,
                dict(options),
                resume=resume or _was_interrupted(),
                folder=home / "training",
                cache=home / "cache",
                progress=shown,
                stop=progress.stop_check(home, own_token),
                interrupts=reporter.interrupts,
            )
        except signals.Interrupted:
            return runs.stopped_state("stopped before its first step", scheduled=not token)
        if result.stopped:
            message = f"{result.run}: saved at step {result.step} of {result.steps}"
            return runs.stopped_state(message, scheduled=not token)
    create_markdown_artifact(
        _markdown(result, options),
        key=artifacts.key(f"{manifest.corpus}-{model}", "trained"),
        description=f"{model} on {result.reference}",
    )
    return {
        "run": result.run,
        "reference": result.reference,
        "steps": result.steps,
        "resumed_at": result.resumed_at,
        "metrics": result.metrics,
        "sample": result.sample,
        "folder": str(result.folder),
        "left_out": list(result.left_out),
        "held_out": result.held_out,
    }


def _was_interrupted() -> bool:
    """Whether this very run was started before: a scheduled one that ended with `stoker up` and goes on."""
    return int(flow_run.run_count or 1) > 1


class _TrainingProgress:
    """Shows a run's events on the terminal and in Prefect's UI."""

    def __init__(self, reporter: progress.ProgressReporter, corpus: str, model: str) -> None:
        self._reporter, self._shown_percent = reporter, 0.0
        self._artifact = create_progress_artifact(
            0.0, key=artifacts.key(f"{corpus}-{model}", "progress"), description=f"{model} on {corpus}"
        )

    def __call__(self, event: "Event") -> None:
        if event.kind == "new":
            self._reporter.message(f"{event.run} begins: {'; '.join(event.notes)}")
        elif event.kind == "start":
            self._reporter.start_phase(event.run, event.steps, event.step)
            if event.step:
                self._reporter.message(f"{event.run}: goes on at step {event.step} of {event.steps}")
            for note in event.notes:
                self._reporter.message(f"{event.run}: {note}")
        elif event.kind == "step":
            waits = "" if math.isnan(event.stall) else f", waits {event.stall:.0%}"
            detail = f"epoch {event.epoch + 1}, loss {event.loss:.3f}, {event.rate:,.0f}/s{waits}"
            self._reporter.advance_to(event.step, detail)
        elif event.kind == "evaluate":
            self._reporter.message(f"step {event.step:,}: {metrics_text(event.metrics)}")
        elif event.kind == "note":
            for note in event.notes:
                self._reporter.message(f"{event.run}: {note}")
        percent = 100.0 * event.step / max(event.steps, 1)
        if percent - self._shown_percent >= 1 or event.kind == "end":  # at most a hundred calls of the API in a run
            self._shown_percent = percent
            self._update(percent, event.kind)

    def _update(self, percent: float, kind: str) -> None:
        if kind in ("step", "evaluate"):  # not where a checkpoint was being saved, or the run ends
            # A server that does not answer must not keep a checkpoint from being saved.
            with self._reporter.interrupts():
                update_progress_artifact(self._artifact, percent)  # type: ignore[arg-type]  # not awaited: it is a UUID
        elif not self._reporter.stop_requested.is_set():
            update_progress_artifact(self._artifact, percent)  # type: ignore[arg-type]  # as above


def metrics_text(metrics: Mapping[str, Any]) -> str:  # Any: JSON values
    """The numbers of an evaluation in one line."""
    texts = [
        f"{name} {number_text(value) if isinstance(value, int | float) else value}"
        for name, value in metrics.items()
        if isinstance(value, int | float | str) and name not in ("split", "epochs", "step")
    ]
    return f"{', '.join(texts)} on {metrics['split']}" if "split" in metrics else ", ".join(texts)


def left_out_text(entry: Mapping[str, Any]) -> str:  # Any: JSON values
    """How many samples a model could not use, and the keys of some."""
    more = ", ..." * (entry["samples"] > len(entry["keys"]))
    return f"{entry['samples']:,} ({', '.join(str(key)[:60] for key in entry['keys'])}{more})"


def _markdown(result: "Result", options: Mapping[str, str]) -> str:
    lists = ("classes", "confusion", "confused", "wrong")
    rows = [(name, str(value)) for name, value in result.metrics.items() if name not in lists]
    rows += [(f"option {name}", value) for name, value in options.items()]
    rows += [(f"left out of {entry['split']}: {entry['reason']}", left_out_text(entry)) for entry in result.left_out]
    rows += [("held out of training", plural(result.held_out, "sample"))] * bool(result.held_out)
    lines = ["| what | value |", "| --- | --- |"]
    lines += [f"| {artifacts.escape(name)} | {artifacts.escape(value)} |" for name, value in rows]
    text = [f"# {result.run} on {result.reference}", plural(result.steps, "step"), "\n".join(lines)]
    if wrong := result.metrics.get("wrong"):
        lines = [
            "Most confidently wrong:",
            "",
            "| sample | is | predicted | probability |",
            "| --- | --- | --- | --- |",
        ]
        for one in wrong:
            cells = (one["key"], one["expected"], one["predicted"], percent_text(one["probability"]))
            lines.append("| " + " | ".join(artifacts.escape(str(cell)) for cell in cells) + " |")
        text.append("\n".join(lines))
    if result.sample:
        text.append("Written by the model:\n\n" + "\n".join(f"    {line}" for line in result.sample.splitlines()))
    return "\n\n".join(text)
