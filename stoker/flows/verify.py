"""The flow `verify`: read everything that a version names again and compare it with its manifest."""

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from stoker.flows import artifacts, progress, runs, signals
from stoker.flows.report.format import size_text
from stoker.flows.settings import Settings
from stoker.storage.errors import CorruptShard
from stoker.storage.verification.verify import Verified
from stoker.storage.verification.verify import verify as verify_version
from stoker.storage.versions.manifest import Manifest, load_manifest


class CorruptVersion(CorruptShard):
    """A version is not what its manifest says; ``result`` has the problems."""

    def __init__(self, reference: str, result: Verified) -> None:
        super().__init__(f"{reference}: {result.problems[0]}")
        self.reference, self.result = reference, result


@flow(name="verify", flow_run_name="{corpus}", persist_result=False, validate_parameters=False)
def verify(corpus: str, settings: dict[str, Any], token: str = "") -> "dict[str, Any] | State[Any]":  # Any: JSON values
    """Read a version again; its counts as JSON values. Raises CorruptVersion when something differs, StorageError."""
    parsed_settings, reporter = Settings.from_json(settings), progress.find_reporter(token)
    runs.record(parsed_settings.home, token, flow_run.id)
    with progress.stoppable(parsed_settings.home, token):
        try:
            with reporter.interrupts():
                store = parsed_settings.open_store()
                manifest = load_manifest(store, corpus)
                reporter.start_phase(f"reading {manifest.reference}", 100)
                result = verify_version(
                    store, manifest, progress=lambda done, total: reporter.advance_to(100 * done // max(total, 1))
                )
        except signals.Interrupted:
            return runs.stopped_state("stopped", scheduled=not token)
        return _report(manifest, result)


def _report(manifest: Manifest, result: Verified) -> dict[str, Any]:  # Any: JSON values
    create_markdown_artifact(
        _markdown(manifest.reference, result),
        key=artifacts.key(manifest.corpus, "verified"),
        description=f"{manifest.reference}: {f'{len(result.problems)} problems' if result.problems else 'intact'}",
    )
    if result.problems:
        raise CorruptVersion(manifest.reference, result)
    return {"reference": manifest.reference} | asdict(result)


def _markdown(reference: str, result: Verified) -> str:
    head = f"# {reference} is {'damaged' if result.problems else 'intact'}"
    counts = f"{result.shards:,} shards, {result.samples:,} samples, {size_text(result.size)} read again"
    return "\n\n".join([head, counts, *(f"- {artifacts.escape(problem)}" for problem in result.problems)])
