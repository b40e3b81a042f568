"""The flow `verify`: everything that a version names is read again and compared with what was promised."""

from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from stoker.flows import artifacts, progress, runs
from stoker.flows.report.format import size_text
from stoker.flows.settings import Settings
from stoker.storage.errors import CorruptShard
from stoker.storage.verification.verify import Verified
from stoker.storage.verification.verify import verify as read_again
from stoker.storage.versions.manifest import load_manifest


class Damaged(CorruptShard):
    """A version is not what its manifest promises; the findings are in ``found``."""

    def __init__(self, reference: str, found: Verified) -> None:
        super().__init__(f"{reference}: {found.problems[0]}")
        self.reference, self.found = reference, found


@flow(name="verify", flow_run_name="{corpus}", persist_result=False, validate_parameters=False)
def verify(corpus: str, settings: dict[str, Any], token: str = "") -> dict[str, Any] | State[Any]:  # Any: JSON values
    """Read a version again; its numbers as JSON values. Raises Damaged when something differs, StorageError."""
    own, board = Settings.from_json(settings), progress.find(token)
    runs.note(own.home, token, flow_run.id)
    store = own.open_store()
    manifest = load_manifest(store, corpus)
    board.phase(f"reading {manifest.reference}", 100)
    board.blocking = True  # nothing is written: it may be cut anywhere
    found = read_again(store, manifest, progress=lambda done, whole: board.reach(100 * done // max(whole, 1)))
    board.blocking = False
    create_markdown_artifact(
        _markdown(manifest.reference, found),
        key=artifacts.key(manifest.corpus, "verified"),
        description=f"{manifest.reference}: {f'{len(found.problems)} problems' if found.problems else 'intact'}",
    )
    if found.problems:
        raise Damaged(manifest.reference, found)
    return {"reference": manifest.reference} | asdict(found)


def _markdown(reference: str, found: Verified) -> str:
    head = f"# {reference} is {'damaged' if found.problems else 'intact'}"
    what = f"{found.shards:,} shards, {found.samples:,} samples, {size_text(found.size)} read again"
    return "\n\n".join([head, what, *(f"- {artifacts.escaped(problem)}" for problem in found.problems)])
