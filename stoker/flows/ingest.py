"""The flow `ingest`: from a recipe to a published version, one Prefect task a partition."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.tasks import exponential_backoff

from stoker.flows import artifacts, progress, runners, runs
from stoker.flows.settings import Settings
from stoker.pipelines import recipe as recipes
from stoker.pipelines.errors import SourceUnavailable
from stoker.pipelines.partition import Partition
from stoker.pipelines.stages import curate as curating
from stoker.pipelines.stages import ingest as ingesting
from stoker.pipelines.stages import pack as packing
from stoker.pipelines.stages import publish as publishing
from stoker.pipelines.stages.ingest import IngestStopped
from stoker.storage.errors import StokerError, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.work import ingest_lease

R = TypeVar("R")
_FINDERS = 16  # looked for at a time: each is one small read
_ARTIFACT_S = 2.0  # between updates of the progress artifact


class IngestFailed(StokerError):
    """Some partitions could not be read; the others are done and will not be read again."""


def _is_unavailable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: the one question that decides about retries."""
    try:
        state.result()
    except (SourceUnavailable, StorageUnavailable):
        return True
    except BaseException:
        return False
    return False


def _kind(function: Callable[..., R], name: str, shown: str | None = None) -> "Task[..., R]":
    make = task(
        name=name,
        task_run_name=shown,
        cache_policy=NO_CACHE,  # what is done is known from the store, the only place that can be believed
        persist_result=False,
        retry_condition_fn=_is_unavailable,
        retry_jitter_factor=0.5,
    )
    return make(function)


@dataclass(frozen=True)
class _Run:
    """What every task of a run needs, as JSON values: the recipe's document and folder, settings, the run's token."""

    recipe: dict[str, Any]  # Any: TOML
    root: str
    settings: dict[str, Any]  # Any: JSON values
    token: str

    def parse(self) -> recipes.Recipe:
        return recipes.parse(self.recipe, root=Path(self.root))

    @property
    def own(self) -> Settings:
        return Settings.from_json(self.settings)

    def retried(self, kind: "Task[..., R]") -> "Task[..., R]":
        """The task with the attempts and waits of the settings."""
        retries = self.own.attempts - 1
        waits = [self.own.retry_s * wait for wait in exponential_backoff(1)(retries)]
        return kind.with_options(retries=retries, retry_delay_seconds=waits or 0)


def _plan(run: dict[str, Any]) -> list[Partition]:  # Any: JSON values
    own = _Run(**run)
    return ingesting.plan(own.parse(), own.own.context(Path(own.root)))


def _partition(run: dict[str, Any], partition: dict[str, Any]) -> dict[str, Any] | State[Any]:  # Any: JSON values
    own = _Run(**run)
    board = progress.find(own.token)
    stop = progress.stopper(own.own.home, own.token)
    name = str(partition["name"])
    try:
        if stop():
            raise IngestStopped("stopped before it began")
        done = ingesting.ingest_partition(
            own.parse(),
            Partition(**partition),
            own.own.open_store(),
            own.own.context(Path(own.root)),
            stop=stop,
            progress=lambda read, kept: board.update(name, read, kept),
        )
    except IngestStopped as error:
        return Cancelled(message=str(error))
    part = done.part
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(part.rejected.items())) or "none"
    get_run_logger().info("read %s, kept %s, rejected: %s", part.read, part.kept, refused)
    return asdict(part)


def _curate(run: dict[str, Any], parts: Sequence[Part]) -> curating.Curation:  # Any: JSON values
    own = _Run(**run)
    return curating.curate(own.parse(), parts, own.own.open_store())


def _pack(run: dict[str, Any], parts: list[dict[str, Any]], decisions: str) -> packing.Packed | State[Any]:  # Any: JSON
    own = _Run(**run)
    if progress.stopper(own.own.home, own.token)():
        return Cancelled(message="stopped before it began")
    group = [Part(**part) for part in parts]
    return packing.pack(own.parse(), group, decisions, own.own.open_store(), own.own.home / "scratch")


def _publish(
    run: dict[str, Any],  # Any: JSON values
    parts: Sequence[Part],
    curation: curating.Curation,
    packed: Sequence[packing.Packed],
) -> publishing.Published:
    own = _Run(**run)
    return publishing.publish(own.parse(), parts, curation, packed, own.own.open_store())


plan_task = _kind(_plan, "plan")
partition_task = _kind(_partition, "partition", "{partition[name]}")
curate_task = _kind(_curate, "curate")
pack_task = _kind(_pack, "pack")
publish_task = _kind(_publish, "publish")


def _run_name() -> str:
    """In Prefect's UI: the corpus and when."""
    recipe = flow_run.parameters.get("recipe") or {}
    return f"{recipe.get('corpus', 'unknown')} {time.strftime('%Y-%m-%d %H:%M:%S')}"


@flow(name="ingest", flow_run_name=_run_name, persist_result=False, validate_parameters=False)
def ingest(
    recipe: dict[str, Any], root: str, settings: dict[str, Any], token: str = ""
) -> dict[str, Any] | State[Any]:  # Any: JSON values
    """Ingest a recipe's corpus and publish a version of it.

    ``recipe`` is the TOML document, ``root`` the folder its paths are relative to, ``token`` the board of the
    one who watches. Returns {"reference": "digits@2", "new": whether it was not there before}, or the state
    Cancelled when the run was asked to stop. Raises StokerError, IngestFailed when partitions failed.
    """
    runs.note(Settings.from_json(settings).home, token, flow_run.id)
    try:
        return _ingest(_Run(recipe, root, settings, token))
    except IngestStopped as error:
        return Cancelled(message=str(error))


def _ingest(run: _Run) -> dict[str, Any]:  # Any: JSON values
    own, parsed = run.own, run.parse()
    store = own.open_store()
    store.probe()
    with ingest_lease(store, parsed.corpus):
        published = _published(run, parsed, store)
    artifacts.of_version(published.manifest, own, new=published.new)
    reference = published.manifest.reference
    get_run_logger().info("%s published" if published.new else "nothing changed since %s", reference)
    if published.new:
        _tell(published)
    return {"reference": reference, "new": published.new}


def _published(run: _Run, parsed: recipes.Recipe, store: Store) -> publishing.Published:
    """The version, made or found. Raises IngestStopped."""
    own, board = run.own, progress.find(run.token)
    stop = progress.stopper(own.home, run.token)
    with runners.make(own) as runner:
        board.phase("planning")
        partitions = _blocking(board, lambda: run.retried(plan_task)(asdict(run)))
        parts = _parts(run, runner, partitions, _find(parsed, partitions, store))
        board.phase("curating")
        curation = _blocking(board, lambda: run.retried(curate_task)(asdict(run), parts))
        packed = _packed(run, runner, curation)
        _stop_here(stop)
    board.phase("publishing")
    return _blocking(board, lambda: run.retried(publish_task)(asdict(run), parts, curation, packed))


def _blocking(board: progress.Board, work: Callable[[], R]) -> R:
    """Work in this thread that may be cut anywhere, because it leaves nothing half done: Ctrl-C does cut it."""
    board.blocking = True
    try:
        return work()
    finally:
        board.blocking = False


def _find(recipe: recipes.Recipe, partitions: Sequence[Partition], store: Store) -> dict[str, Part]:
    """The parts that earlier runs finished, by partition: found in bulk, so that no task is started for them."""
    with ThreadPoolExecutor(_FINDERS) as pool:
        found = pool.map(lambda partition: ingesting.find_part(recipe, partition, store), partitions)
        return {partition.name: part for partition, part in zip(partitions, found, strict=True) if part is not None}


def _parts(
    run: _Run,
    runner: Any,  # Any: each runner has futures of its own
    partitions: Sequence[Partition],
    found: dict[str, Part],
) -> list[Part]:
    """The parts of all partitions, in their order; those not found are ingested. Raises IngestFailed, IngestStopped."""
    board, stop = progress.find(run.token), progress.stopper(run.own.home, run.token)
    before = {"read": sum(part.read for part in found.values()), "kept": sum(part.kept for part in found.values())}
    board.phase("ingesting", len(partitions), len(found), **before)
    if found:
        board.note(f"{len(found)} of {len(partitions)} partitions are done already")
    shown = artifacts.Progress(run.recipe["corpus"], len(partitions), len(found), every_s=_ARTIFACT_S)
    done, failed = dict(found), dict[str, BaseException]()
    calls = ((one.name, {"run": asdict(run), "partition": asdict(one)}) for one in partitions if one.name not in found)
    for name, outcome in runners.run(runner, run.retried(partition_task), calls, settings=run.own, stopped=stop):
        if isinstance(outcome, BaseException):
            failed[name] = outcome
            board.end(name)
        else:
            part = Part(**outcome)  # type: ignore[arg-type]  # what _partition returned
            done[name] = part
            board.end(name, part.read, part.kept)
        shown.update(len(done))
    _stop_here(stop)
    shown.close(len(done))
    if failed:
        raise _failure(run.recipe["corpus"], failed, len(partitions))
    return [done[partition.name] for partition in partitions]


def _packed(run: _Run, runner: Any, curation: curating.Curation) -> list[packing.Packed]:  # Any: as in _parts
    board, stop = progress.find(run.token), progress.stopper(run.own.home, run.token)
    board.phase("packing", len(curation.groups))
    packed: dict[str, packing.Packed] = {}
    key = curation.decisions.key
    calls = (
        (str(number), {"run": asdict(run), "parts": [asdict(part) for part in group], "decisions": key})
        for number, group in enumerate(curation.groups)
    )
    for name, outcome in runners.run(runner, run.retried(pack_task), calls, settings=run.own, stopped=stop):
        board.end(name)
        if isinstance(outcome, packing.Packed):
            packed[name] = outcome
        elif isinstance(outcome, BaseException) and not stop():
            raise outcome
    _stop_here(stop)
    return [packed[str(number)] for number in range(len(curation.groups))]


def _stop_here(stop: Callable[[], bool]) -> None:
    if stop():
        raise IngestStopped("stopped; the same command resumes")


def _failure(corpus: str, failed: dict[str, BaseException], total: int) -> BaseException:
    """One line for all partitions that failed; a bug stays what it is, with its traceback."""
    for error in failed.values():
        if not isinstance(error, StokerError):
            return error
    name, first = next(iter(sorted(failed.items())))
    count = f"{len(failed)} of {total} partitions failed" if total > 1 else "the only partition failed"
    more = " (the others are in Prefect's UI)" if len(failed) > 1 else ""
    return IngestFailed(
        f"{corpus}: {count} and nothing was published; {name!r}: {first}{more}. The same command tries "
        f"{'them' if len(failed) > 1 else 'it'} again and repeats nothing that is done"
    )


def _tell(published: publishing.Published) -> None:
    """Emit the event that deployments can wait for."""
    manifest = published.manifest
    emit_event(
        event=runs.PUBLISHED,
        resource={
            "prefect.resource.id": f"stoker.corpus.{manifest.corpus}",
            "prefect.resource.name": manifest.corpus,
            "stoker.version": str(manifest.version),
        },
        payload={"corpus": manifest.corpus, "version": manifest.version, "reference": manifest.reference},
    )
