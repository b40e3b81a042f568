"""The flow `ingest`: from a recipe to a published version, with one Prefect task for each partition.

Stages: plan (list the partitions), ingest (read each, apply the steps), curate (apply the rules to all), pack (write
the shards), publish (write the manifest). The store alone says what is done, so the same command resumes a run. Tasks
may run in other processes or machines: they get JSON values and parse them once into a ``TaskContext``.
"""

import contextlib
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.tasks import exponential_backoff

from stoker.flows import artifacts, logs, progress, runs, signals
from stoker.flows.runners import clusters, remote, tasks
from stoker.flows.runners.remote import WorkerUnfit
from stoker.flows.runners.stretches import ReadingCalls, stretch_name
from stoker.flows.settings import Settings
from stoker.pipelines.errors import NotAtOnce, SourceUnavailable
from stoker.pipelines.memory.known import Again
from stoker.pipelines.partition import Partition, Partitions
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.rejected import LOSS
from stoker.pipelines.source import Context
from stoker.pipelines.stages import curate as curating
from stoker.pipelines.stages import ingest as ingesting
from stoker.pipelines.stages import pack as packing
from stoker.pipelines.stages import publish as publishing
from stoker.pipelines.stages.group import Packed
from stoker.pipelines.stages.ingest import IngestStopped
from stoker.pipelines.stages.pinning import pinned
from stoker.pipelines.stages.raw_part import DamagedParts
from stoker.pipelines.stages.remembering.read_rounds import known_samples
from stoker.pipelines.stages.remembering.rounds import Rounds
from stoker.storage.errors import StokerError, StorageUnavailable
from stoker.storage.plural import plural
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.work import ingest_lease, release_leases

R = TypeVar("R")
_DISK_ERRORS = {  # of the folder that a process works in, by number: what helps
    errno.ENOSPC: "the disk is full: free some space, or set STOKER_HOME to a folder on a larger one",
    errno.EDQUOT: "the quota is used up: free some space",
    errno.EFBIG: "the limit of a file's size is reached: raise it (ulimit -f)",
    errno.EROFS: "the file system is read-only: set STOKER_HOME to a folder that can be written",
    errno.EACCES: "check its owner and permissions",
}
_LOOKUP_THREADS = 16  # finished parts looked up at a time: each is one small read from the store
_ARTIFACT_INTERVAL_S = 2.0  # between updates of the progress artifact


class IngestFailed(StokerError):
    """Some partitions could not be read; the others are done and will not be read again."""


def _is_unavailable(task: Task[..., Any], run: TaskRun, state: "State[Any]") -> bool:
    """Whether trying again may help; Prefect asks this before each retry."""
    try:
        state.result()
    except (SourceUnavailable, StorageUnavailable):
        return True
    except BaseException:
        return False
    return False


def _define_task(function: Callable[..., R], name: str, run_name: str | None = None) -> "Task[..., R]":
    decorate = task(
        name=name,
        task_run_name=run_name,
        cache_policy=NO_CACHE,  # the store alone says what is done; a second record could contradict it
        persist_result=False,
        retry_condition_fn=_is_unavailable,
        retry_jitter_factor=0.5,
    )
    return decorate(function)


@dataclass(frozen=True)
class TaskContext:
    """What the flow and its tasks work with, parsed once from the JSON values that are sent to other processes."""

    run: dict[str, Any]  # Any: those JSON values: recipe, root, settings, token, trusted
    recipe: Recipe
    settings: Settings
    token: str  # of the progress reporter

    @classmethod
    def from_json(cls, run: dict[str, Any]) -> "TaskContext":  # Any: JSON values
        """Parse the recipe and the settings. Raises StokerError, on a cluster's worker WorkerUnfit."""
        if "cluster" in run:
            remote.check_versions(run["cluster"]["versions"])
        recipe, settings = parse(run["recipe"], root=Path(run["root"])), Settings.from_json(run["settings"])
        logs.configure_worker(level=settings.log_level, format=settings.log_format)
        return cls(run, recipe, settings, run["token"])

    @cached_property
    def store(self) -> Store:
        """The store that the settings name, opened at first use."""
        if "cluster" in self.run:
            return remote.open_store(self.settings, self.run["cluster"]["lease"])
        return self.settings.open_store()

    @cached_property
    def home(self) -> Path:
        """Where this process keeps files: the home of the settings; on a worker of the user's own cluster, its own."""
        return remote.worker_home() if "cluster" in self.run else self.settings.home

    def for_workers(self, lease: str) -> "TaskContext":
        """The same for the runner's workers, with what one on the user's own cluster is to find; see ``remote``."""
        if not self.settings.cluster:
            return self
        return replace(self, run=self.run | {"cluster": remote.expectations(self.recipe, lease)})

    @property
    def again(self) -> Again:
        """Which candidates are asked for again on demand."""
        reasons, refresh = self.run.get("again"), self.run.get("refresh")
        return Again(
            all=reasons == [],
            reasons=tuple(reasons or ()),
            older_recipe=refresh == "recipe",
            kept=refresh == "kept",
            older_than=timedelta(seconds=self.run.get("older_than_s", 0.0)),
            max_bytes=None if (megabytes := self.run.get("max_megabytes")) is None else megabytes * 10**6,
        )

    @cached_property
    def stop_requested(self) -> Callable[[], bool]:
        """Whether the run was asked to stop."""
        return progress.stop_check(self.home, self.token)

    @property
    def reporter(self) -> progress.ProgressReporter:
        """Shows progress where the run is watched; silent in other processes."""
        return progress.find_reporter(self.token)

    def source_context(self) -> Context:
        """What sources read with."""
        settings = replace(self.settings, home=self.home)
        context = settings.context(self.recipe.root, trusted=self.run.get("trusted") is True)
        # On the user's own cluster each worker has a home of its own, where others do not see what it downloads.
        context = replace(context, may_cut=settings.slots > 1 and "cluster" not in self.run)
        if "known" not in self.run:
            return context
        name, number = self.run["known"]
        is_remade = self.again.older_recipe
        known = known_samples(self.recipe, self.store, context, name, number, is_remade=is_remade)
        return replace(context, known=known)

    def raise_if_stopped(self) -> None:
        """Raise IngestStopped when the run was asked to stop."""
        if self.stop_requested():
            raise IngestStopped("stopped; the same command resumes")

    def with_retries(self, task: "Task[..., R]") -> "Task[..., R]":
        """The task with the attempts and waits of the settings."""
        retries = self.settings.attempts - 1
        waits = [self.settings.retry_s * wait for wait in exponential_backoff(1)(retries)]
        return task.with_options(retries=retries, retry_delay_seconds=waits or 0)


def _plan(rounds: Rounds) -> Partitions | None:
    return rounds.next()


def _remember(rounds: Rounds, parts: Sequence[Part]) -> None:
    rounds.finish(parts)


@contextlib.contextmanager
def _disk_errors(context: TaskContext) -> Iterator[None]:
    """Turn what the file system of this process's own folder refuses into one line; the task is done again later."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or context.home / "scratch"
        raise StokerError(f"{where}: {error.strerror}; {_DISK_ERRORS[error.errno]}, and run again") from error


# "State[Any]" in quotes: tasks are sent to other processes with their annotations, and pydantic makes that class when
# it is first named; with most versions other processes cannot look it up.
def _partition(
    run: dict[str, Any],  # Any: JSON values
    partition: dict[str, Any],  # Any: JSON values
    stretches: Sequence[dict[str, Any]] = (),  # Any: JSON values
    number: int = 0,
) -> "dict[str, Any] | list[dict[str, Any]] | bool | State[Any]":  # Any: JSON values
    """The part of a partition, its stretches joined; or whether stretch ``number``, counted from 1, can be joined.

    Or the stretches in which it is to be read, where none are given.
    """
    context = TaskContext.from_json(run)
    reporter, name = context.reporter, str(partition["name"])
    name = stretch_name(name, number) if number else name
    try:
        if context.stop_requested():
            raise IngestStopped("stopped before it began")
        with _disk_errors(context):
            read_it = partial(ingesting.ingest_stretch, number=number) if number else ingesting.ingest_partition
            result = read_it(
                context.recipe,
                Partition(**partition),
                context.store,
                context.source_context(),
                stop=context.stop_requested,
                progress=lambda read, kept: reporter.update(name, read, kept),
                stretches=[Partition(**stretch) for stretch in stretches],
            )
    except NotAtOnce as error:
        get_run_logger().info(str(error))
        return [stretch.as_json() for stretch in error.stretches]
    except IngestStopped as error:
        return Cancelled(message=str(error))
    if isinstance(result, bool):
        return result
    part = result.part
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(part.counted.rejected.items())) or "none"
    known = f", known {part.known}" if part.known else ""
    get_run_logger().info("read %s, kept %s%s, rejected: %s", part.read, part.kept, known, rejected)
    return asdict(part)


def _curate(run: dict[str, Any], parts: Sequence[Part]) -> curating.Curation:  # Any: JSON values
    context = TaskContext.from_json(run)
    return curating.curate(context.recipe, parts, context.store, context.home / "scratch")


def _pack(
    run: dict[str, Any],  # Any: JSON values
    parts: list[dict[str, Any]],  # Any: JSON values
    decisions: bytes,
    damaged: list[str],
) -> "Packed | State[Any]":
    context = TaskContext.from_json(run)
    if context.stop_requested():
        return Cancelled(message="stopped before it began")
    group = [Part(**part) for part in parts]
    with _disk_errors(context):
        scratch = context.home / "scratch"
        return packing.pack(context.recipe, group, decisions, context.store, scratch, damaged=damaged)


def _publish(
    run: dict[str, Any],  # Any: JSON values
    parts: Sequence[Part],
    curation: curating.Curation,
    packed: Sequence[Packed],
    counted: Sequence[Part],
) -> publishing.Published:
    context = TaskContext.from_json(run)
    publishing.check_limits(context.recipe, counted, packed)
    return publishing.publish(context.recipe, parts, curation, packed, context.store)


plan_task = _define_task(_plan, "plan")
remember_task = _define_task(_remember, "remember")
partition_task = _define_task(_partition, "partition", "{partition[name]}")
curate_task = _define_task(_curate, "curate")
pack_task = _define_task(_pack, "pack")
publish_task = _define_task(_publish, "publish")


def _run_name() -> str:
    """In Prefect's UI: the corpus and when."""
    recipe = flow_run.parameters.get("recipe") or {}
    return f"{recipe.get('corpus', 'unknown')} {time.strftime('%Y-%m-%d %H:%M:%S')}"


@flow(name="ingest", flow_run_name=_run_name, persist_result=False, validate_parameters=False)
def ingest(
    recipe: dict[str, Any],
    root: str,
    settings: dict[str, Any],
    token: str = "",
    trusted: bool = False,
    again: list[str] | None = None,
    refresh: str | None = None,
    older_than_s: float = 0.0,
    max_megabytes: int | None = None,
) -> "dict[str, Any] | State[Any]":  # Any: JSON values
    """Ingest a recipe's corpus and publish a version of it.

    ``recipe`` is the TOML document, ``root`` the folder its paths are relative to, ``token`` that of the progress
    reporter, if the run is watched, ``trusted`` whether paths of the recipe may leave ``root``, ``again`` the reasons
    whose rejected candidates are asked for in any case ([]: all of them; None: none), ``refresh`` which kept ones are
    ("recipe": those that an older recipe made; "kept": what was seen last ``older_than_s`` ago; None: none), of "kept"
    about ``max_megabytes`` are received.

    Returns {"reference": "digits@2", "new": whether the version is new}, as the state Incomplete where pieces of the
    source were lost, or the state Cancelled when the run was asked to stop. Raises StokerError, IngestFailed when
    partitions failed.
    """
    home = Settings.from_json(settings).home
    runs.record(home, token, flow_run.id)
    with progress.stoppable(home, token) as own_token, signals.before_exit(release_leases):
        try:
            run = {"recipe": recipe, "root": root, "settings": settings, "token": own_token, "trusted": trusted}
            run |= {} if again is None else {"again": again}
            refreshed = {"refresh": refresh, "older_than_s": older_than_s, "max_megabytes": max_megabytes}
            run |= {} if refresh is None else refreshed
            context = TaskContext.from_json(run)
            run["recipe"] = dict(pinned(context.recipe, context.source_context(), context.store).document)
            return _ingest(TaskContext.from_json(run))
        except (IngestStopped, signals.Interrupted):
            return runs.stopped_state("stopped; finished partitions stay", scheduled=not token)


def _ingest(context: TaskContext) -> "dict[str, Any] | State[Any]":  # Any: JSON values
    context.store.probe()
    ends_with_us = context.settings.runner in ("threads", "processes")  # all that works for this run, if it is killed
    with ingest_lease(context.store, context.recipe.corpus, alone=ends_with_us) as lease:
        published = _run_stages(context, lease)
    artifacts.create_version_artifacts(published.manifest, context.settings, new=published.new)
    reference = published.manifest.reference
    get_run_logger().info("%s published" if published.new else "nothing changed since %s", reference)
    if published.new:
        _emit_published(published)
    result = {"reference": reference, "new": published.new}
    losses = published.manifest.rejected.get(LOSS, 0)
    return runs.incomplete_state(reference, losses, result) if losses else result


def _run_stages(context: TaskContext, lease: str) -> publishing.Published:
    """Plan, ingest, curate, pack, publish; ``lease`` is a key. Raises IngestStopped, IngestFailed."""
    reporter = context.reporter
    with clusters.started(context.settings) as runner:
        signals.keep()  # Ray sets a handler of its own
        workers_run = context.for_workers(lease).run
        rounds = Rounds(context.recipe, context.source_context(), context.store, again=context.again)

        def run(damaged: frozenset[str]) -> publishing.Published:
            _run_rounds(context, runner, rounds, workers_run)
            parts = publishing.parts_to_publish(context.recipe, rounds.parts, context.store)
            reporter.start_phase("curating")
            curation = _interruptibly(reporter, lambda: context.with_retries(curate_task)(context.run, parts))
            if (same := publishing.unchanged_view(context.recipe, parts, curation, context.store)) is not None:
                return same
            packed = _pack_groups(context, runner, curation, workers_run, damaged)
            context.raise_if_stopped()
            reporter.start_phase("publishing")
            publish = context.with_retries(publish_task)
            return _interruptibly(reporter, lambda: publish(context.run, parts, curation, packed, rounds.parts))

        return publishing.healed(context.recipe.corpus, context.store, run)


def _run_rounds(context: TaskContext, runner: Any, rounds: Rounds, run: dict[str, Any]) -> None:  # Any: as below
    """Plan and ingest until nothing is left to be asked for, and remember what became of it."""
    reporter = context.reporter
    rounds.restart()
    while True:
        reporter.start_phase("planning")
        partitions = _interruptibly(reporter, lambda: context.with_retries(plan_task)(rounds))
        if rounds.asked_again:
            reporter.message(str(rounds.asked_again))
        if partitions is None:
            return
        known = rounds.known.path
        reading = run | {"known": [known.name, rounds.head]} if known else run
        parts = _ingest_partitions(context, runner, partitions, reading) if partitions else []
        _interruptibly(reporter, lambda: context.with_retries(remember_task)(rounds, parts))  # noqa: B023  # called now


def _interruptibly(reporter: progress.ProgressReporter, work: Callable[[], R]) -> R:
    """Do work that leaves nothing half done, so that a signal may raise in the middle of it."""
    with reporter.interrupts():
        return work()


def _finished_parts(context: TaskContext, partitions: Partitions) -> dict[str, Part]:
    """The parts that earlier runs finished, by partition: looked up in bulk, so that no task is started for them."""

    def find(number: int) -> Part | None:
        return ingesting.find_part(context.recipe, partitions[number], context.store)

    with ThreadPoolExecutor(_LOOKUP_THREADS) as pool:
        parts = pool.map(find, range(len(partitions)))
        return {name: part for name, part in zip(partitions.names, parts, strict=True) if part is not None}


def _ingest_partitions(
    context: TaskContext,
    runner: Any,  # Any: each runner has futures of its own
    partitions: Partitions,
    run: dict[str, Any],  # Any: JSON values, for workers
) -> list[Part]:
    """The parts of all partitions, in order; unfinished ones are ingested. Raises IngestFailed, IngestStopped."""
    reporter, corpus, total = context.reporter, context.recipe.corpus, len(partitions)
    done, failed = _finished_parts(context, partitions), dict[str, BaseException]()
    read, kept = sum(part.read for part in done.values()), sum(part.kept for part in done.values())
    reporter.start_phase("ingesting", total, len(done), read=read, kept=kept)
    if done:
        reporter.message(f"{len(done):,} of {plural(total, 'partition')} done already")
    artifact = artifacts.PartitionProgress(corpus, total, len(done), every_s=_ARTIFACT_INTERVAL_S)
    remaining = [number for number, name in enumerate(partitions.names) if name not in done]
    source_context = context.source_context()
    calls = ReadingCalls(lambda one: ingesting.cut(context.recipe, one, context.store, source_context))
    for name, result in _read(context, runner, calls, (partitions[number] for number in remaining), run):
        if isinstance(result, BaseException):
            failed[name] = result
            reporter.finish(name)
        else:
            part = Part(**result)  # type: ignore[arg-type]  # what _partition returned
            done[name] = part
            reporter.finish(name, part.read, part.kept)
        artifact.update(len(done))
    context.raise_if_stopped()
    artifact.close(len(done))
    if failed:
        raise _failure(corpus, failed, total)
    return [done[name] for name in partitions.names]


def _read(
    context: TaskContext,
    runner: Any,  # Any: as in _ingest_partitions
    calls: ReadingCalls,
    partitions: Iterable[Partition],
    run: dict[str, Any],  # Any: JSON values, for workers
) -> Iterator[tuple[str, object]]:
    """(name, result or exception) of each partition, in the order of completion. Raises WorkerUnfit."""
    given = (call and (call[0], {"run": run} | call[1]) for call in calls.of(partitions))
    for name, result in _run_tasks(context, runner, partition_task, given):
        if isinstance(result, WorkerUnfit):
            raise result
        if not calls.note(name, result):
            for stretch in calls.stretches_of(name):
                context.reporter.drop(stretch)
            yield name, result


def _pack_groups(
    context: TaskContext,
    runner: Any,  # Any: as in _ingest_partitions
    curation: curating.Curation,
    run: dict[str, Any],  # Any: JSON values, for workers
    damaged: frozenset[str],
) -> list[Packed]:
    """Pack each group of parts into shards, in the order of the groups; again those that have ``damaged`` objects.

    Raises IngestStopped, StokerError, DamagedParts among them.
    """
    context.reporter.start_phase("packing", len(curation.groups))
    packed: dict[str, Packed] = {}
    damages: list[DamagedParts] = []
    common = {"run": run, "damaged": sorted(damaged)}
    calls = (
        (str(number), common | {"parts": [asdict(part) for part in group], "decisions": decisions})
        for number, (group, decisions) in enumerate(zip(curation.groups, curation.by_group, strict=True))
    )
    for name, result in _run_tasks(context, runner, pack_task, calls):
        context.reporter.finish(name)
        if isinstance(result, Packed):
            packed[name] = result
        elif isinstance(result, DamagedParts):
            damages.append(result)
        elif isinstance(result, BaseException) and not context.stop_requested():
            raise result
    context.raise_if_stopped()
    if damages:
        raise DamagedParts.joined(damages)
    return [packed[str(number)] for number in range(len(curation.groups))]


def _run_tasks(
    context: TaskContext,
    runner: Any,  # Any: as in _ingest_partitions
    task: "Task[..., Any]",  # Any: whatever the task returns
    calls: Iterable[tuple[str, dict[str, Any]] | None],  # Any: JSON values
) -> Iterator[tuple[str, object]]:
    """(name, result or exception) of each call; see ``tasks.run``."""
    task = context.with_retries(task)
    return tasks.run(runner, task, calls, settings=context.settings, stopped=context.stop_requested)


def _failure(corpus: str, failed: dict[str, BaseException], total: int) -> BaseException:
    """One error for all partitions that failed; an exception that is a bug is returned as it is, with its traceback."""
    for error in failed.values():
        if not isinstance(error, StokerError):
            return error
    name, first = next(iter(sorted(failed.items())))
    count = f"{len(failed)} of {total} partitions failed" if total > 1 else "the only partition failed"
    more = " (the others are in Prefect's UI)" if len(failed) > 1 else ""
    error = IngestFailed(
        f"{corpus}: {count} and nothing was published; {name!r}: {first}{more}. The same command tries "
        f"{'them' if len(failed) > 1 else 'it'} again and repeats nothing that is done"
    )
    if all(isinstance(cause, SourceUnavailable | StorageUnavailable) for cause in failed.values()):
        error.__cause__ = first  # a later run may succeed
    return error


def _emit_published(published: publishing.Published) -> None:
    """Emit the event that deployments can wait for."""
    manifest = published.manifest
    emit_event(
        event=runs.PUBLISHED_EVENT,
        resource={
            "prefect.resource.id": f"stoker.corpus.{manifest.corpus}",
            "prefect.resource.name": manifest.corpus,
            "stoker.version": str(manifest.version),
        },
        payload={"corpus": manifest.corpus, "version": manifest.version, "reference": manifest.reference},
    )
