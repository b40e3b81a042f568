"""The flow `verify`: read everything that a version names again and compare it with its manifest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from stoker.flows import artifacts, progress, runs, signals
from stoker.flows.report.format import size_text
from stoker.flows.settings import Settings
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.published import recipe_in
from stoker.pipelines.repair import repair as repair_version
from stoker.storage.errors import CorruptShard
from stoker.storage.plural import plural
from stoker.storage.stores.store import Store
from stoker.storage.verification.recording import RecordingStore
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.verify import Verified
from stoker.storage.verification.verify import verify as verify_version
from stoker.storage.versions.manifest import Manifest, load_manifest, remedy
from stoker.storage.versions.tar_store import store_of_tars

_SHOWN_KEYS = 5  # in one line


@dataclass(frozen=True)
class Repaired:
    """What a repair did, by keys of objects, and what it could not do."""

    rewritten: Sequence[str] = ()
    removed: Sequence[str] = ()  # what the next run makes again
    advice: Sequence[str] = ()


class CorruptVersion(CorruptShard):
    """A version is not what its manifest says; ``result`` has the problems, ``repaired`` what a repair did."""

    def __init__(self, reference: str, result: Verified, repaired: Repaired) -> None:
        super().__init__(f"{reference}: {result.problems[0]}")
        self.reference, self.result, self.repaired = reference, result, repaired


@flow(name="verify", flow_run_name="{corpus}", persist_result=False, validate_parameters=False)
def verify(
    corpus: str, settings: dict[str, Any], token: str = "", repair: bool = False
) -> "dict[str, Any] | State[Any]":  # Any: JSON values
    """Read a version again; its counts as JSON values. Raises CorruptVersion when something differs, StorageError.

    With ``repair`` what can be derived from other objects is written again first, and then all is read once more.
    """
    parsed_settings, reporter = Settings.from_json(settings), progress.find_reporter(token)
    runs.record(parsed_settings.home, token, flow_run.id)
    with progress.stoppable(parsed_settings.home, token):
        try:
            with reporter.interrupts():
                store = parsed_settings.open_store()
                manifest = load_manifest(store, corpus)
                reporter.start_phase(f"reading {manifest.reference}", 100)
                result, repaired = _verify(store, manifest, reporter), Repaired()
            if repair and result.problems:  # not interrupted in the middle of a write
                reporter.start_phase(f"repairing {manifest.reference}")
                repaired = _repair(store, manifest, result, parsed_settings)
                with reporter.interrupts():
                    reporter.start_phase(f"reading {manifest.reference} again", 100)
                    result = _verify(store, manifest, reporter)
                if result.problems and not repaired.advice:
                    repaired = replace(repaired, advice=_not_derived(store, manifest, result))
        except signals.Interrupted:
            return runs.stopped_state("stopped", scheduled=not token)
        return _report(manifest, result, repaired)


def _verify(store: Store, manifest: Manifest, reporter: progress.ProgressReporter) -> Verified:
    return verify_version(
        store, manifest, progress=lambda done, total: reporter.advance_to(100 * done // max(total, 1))
    )


def _repair(store: Store, manifest: Manifest, result: Verified, settings: Settings) -> Repaired:
    recorded = RecordingStore(store)
    # RecordingStore has all methods of a store: those that it does not define are the store's own.
    advice = _heal(cast(Store, recorded), manifest, result, settings)
    return Repaired(recorded.written, recorded.removed, advice)


def _heal(store: Store, manifest: Manifest, result: Verified, settings: Settings) -> list[str]:
    """What the repair could not do."""
    if lists := [file for file in manifest.lists if file.key in result.damaged]:  # they say what else there is
        restore = remedy(store, manifest.corpus, manifest.version)
        return [f"{file.key}, whose SHA-256 is {file.sha256}: {restore}" for file in lists]
    if manifest.is_indexed:
        return repair_indexed(store, store_of_tars(store, manifest), manifest, result.damaged)
    try:
        recipe = recipe_in(manifest)
    except RecipeError as error:
        return [f"its recipe cannot be read here ({error}); install its plug-ins, and repair again"]
    return repair_version(recipe, manifest, result.damaged, store, settings.home / "scratch")


def _not_derived(store: Store, manifest: Manifest, result: Verified) -> list[str]:
    """What to do about objects that no other object can heal: those beside a version, and its manifest."""
    keys = sorted(result.damaged - {manifest.reference})
    shown = f"{', '.join(keys[:_SHOWN_KEYS])}{' and others' * (len(keys) > _SHOWN_KEYS)}"
    advice = [f"nothing else in the store tells what was in {shown}; put back the copy of a backup"] if keys else []
    if manifest.reference in result.damaged:
        restore = remedy(store, manifest.corpus, manifest.version)
        advice.append(f"nothing else in the store tells what the manifest of {manifest.reference} said; {restore}")
    return advice


def _report(manifest: Manifest, result: Verified, repaired: Repaired) -> dict[str, Any]:  # Any: JSON values
    create_markdown_artifact(
        _markdown(manifest.reference, result),
        key=artifacts.key(manifest.corpus, "verified"),
        description=f"{manifest.reference}: {plural(len(result.problems), 'problem') if result.problems else 'intact'}",
    )
    if result.problems:
        raise CorruptVersion(manifest.reference, result, repaired)
    return {"reference": manifest.reference, "verified": asdict(result), "repaired": asdict(repaired)}


def _markdown(reference: str, result: Verified) -> str:
    head = f"# {reference} is {'damaged' if result.problems else 'intact'}"
    counts = (
        f"{plural(result.shards, 'shard')}, {plural(result.samples, 'sample')}, {size_text(result.size)} read again"
    )
    problems = [f"- {artifacts.escape(problem)}" for problem in result.problems]
    lost = [f"- lost, and asked for again when needed: {artifacts.escape(key)}" for key in result.lost_originals]
    return "\n\n".join([head, counts, *problems, *lost])
