"""Start a flow from this terminal and return its result; used by the command line and the demo."""

import errno
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows import logs, signals
from stoker.flows import settings as configuration
from stoker.flows.private import close_to_others, make_private
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from stoker.flows.progress import ProgressReporter
    from stoker.flows.verify import Repaired
    from stoker.pipelines.recipe import Recipe
    from stoker.pipelines.source import Context
    from stoker.storage.verification.verify import Verified
    from stoker.storage.versions.manifest import Manifest

_FLAGS = ("home", "store", "runner", "workers", "log_level", "log_format")


def load_settings(arguments: Namespace, recipe: Path | None = None) -> Settings:
    """The settings of this call, after a line on standard error about the files that they come from.

    See ``stoker.flows.settings.load``. A home that is there is closed to other users. Raises StokerError.
    """
    flags = {name: getattr(arguments, name, None) for name in _FLAGS}  # not every subcommand has every flag
    lines: list[str] = []
    try:
        settings = configuration.load(flags, recipe=recipe, config=arguments.config or "", report=lines.append)
        logs.configure(level=settings.log_level, format=settings.log_format)
    finally:
        for line in lines:
            logs.note(line)
    close_to_others(settings.home)
    return settings


def run_ingest(
    settings: Settings,
    recipe: "Recipe",
    *,
    trusted: bool = False,
    again: list[str] | None = None,
    refresh: str | None = None,
    older_than_s: float = 0.0,
    max_megabytes: int | None = None,
) -> "tuple[Manifest, bool]":
    """Run the flow `ingest`. Returns the manifest of the published version, and whether the version is new.

    Args:
        settings: where it runs.
        recipe: of the corpus.
        trusted: whether paths of the recipe may leave its folder.
        again: reasons whose rejected candidates are asked for in any case; []: all; None: none.
        refresh: which kept candidates are asked for again; "recipe": those that an older recipe made; "kept": all, to
            see whether they have changed; None: none.
        older_than_s: of "kept", those alone that were seen last so many seconds ago.
        max_megabytes: of "kept", about so many bytes are received; None: any number.
    """
    check_trust(settings, recipe, trusted=trusted)
    from stoker.storage.versions.manifest import load_manifest
    from stoker.storage.versions.work import release_leases

    # An error of the source or the store is reported before any server is started.
    context = settings.context(recipe.root, trusted=trusted)
    check_source(recipe, context)
    make_private(settings.home)
    store = settings.open_store()
    store.probe()
    if again is None and refresh is None:
        from stoker.pipelines.stages.unchanged import find_unchanged

        with signals.before_exit(release_leases):
            unchanged = find_unchanged(recipe, store, context)
        if unchanged is not None:  # without a run: Prefect costs more than seeing this
            return unchanged, False
    with _flow_session(settings) as session:
        from stoker.flows.ingest import ingest

        session.reporter.message(f"{recipe.corpus}: into {store.url}; watched at {session.address}")
        arguments = (
            dict(recipe.document),
            str(recipe.root),
            settings.to_json(),
            session.reporter.token,
            trusted,
            again,
            refresh,
            older_than_s,
            max_megabytes,
        )
        state = ingest(*arguments, return_state=True)
    result = session.result_of(state)
    return load_manifest(store, result["reference"]), result["new"]


def run_training(
    settings: Settings, model: str, corpus: str, options: "dict[str, str]", *, resume: bool = False
) -> "dict[str, Any]":  # Any: JSON values
    """Run the flow `train`. Returns its result; see ``stoker.flows.train``."""
    from stoker.storage.versions.manifest import load_manifest

    check_training(model, options)
    manifest = load_manifest(settings.open_store(reading=True), corpus)
    from stoker.training.run.steps.ranks import joined

    with joined(options.get("device", "auto")) as ranks:
        if not ranks.first:  # of `torchrun`: rank 0 alone has a run in Prefect, and reports
            return _train_beside(settings, model, manifest, options, resume=resume)
        return _train_in_flow(settings, model, manifest, options, resume=resume)


def _train_beside(
    settings: Settings, model: str, manifest: "Manifest", options: "dict[str, str]", *, resume: bool
) -> "dict[str, Any]":  # Any: JSON values
    """Train as another rank than the first: a signal stops all ranks after the same step."""
    from stoker.storage.stores.urls import with_patience
    from stoker.training.run.train import train

    home, asked = settings.home, list[int]()
    with signals.on_signal(asked.append):
        result = train(
            with_patience(settings.open_store(), settings.patience_s),
            manifest,
            model,
            dict(options),
            resume=resume,
            folder=home / "training",
            cache=home / "cache",
            stop=lambda: bool(asked),
        )
    if result.stopped:
        raise signals.Interrupted
    return {}


def _train_in_flow(
    settings: Settings, model: str, manifest: "Manifest", options: "dict[str, str]", *, resume: bool
) -> "dict[str, Any]":  # Any: JSON values
    with _flow_session(settings) as session:
        from stoker.flows.train import train

        session.reporter.message(f"{model} on {manifest.reference}; watched at {session.address}")
        arguments = (model, manifest.reference, options, settings.to_json(), session.reporter.token, resume)
        state = train(*arguments, return_state=True)
    result: dict[str, Any] = session.result_of(state)
    return result


def run_verification(settings: Settings, reference: str, *, repair: bool = False) -> "tuple[Verified, Repaired]":
    """Run the flow `verify`. Returns what it counted and the problems that it found, and what its repair did."""
    with _flow_session(settings) as session:
        from stoker.flows.verify import CorruptVersion, Repaired, verify
        from stoker.storage.verification.verify import Verified

        state = verify(reference, settings.to_json(), session.reporter.token, repair=repair, return_state=True)
    try:
        result = session.result_of(state)
    except CorruptVersion as error:
        return error.result, error.repaired
    return Verified(**result["verified"]), Repaired(**result["repaired"])


def check_trust(settings: Settings, recipe: "Recipe", *, trusted: bool) -> None:
    """Refuse a recipe whose paths leave its folder unless it is trusted, before anything is started."""
    from stoker.pipelines.stages.trust import check_paths

    check_paths(recipe, settings.context(recipe.root, trusted=trusted))


def check_source(recipe: "Recipe", context: "Context", where: str = "") -> None:
    """Refuse a recipe whose source lacks a file, a package or a column. Raises RecipeError, which begins with where."""
    from stoker.pipelines.errors import RecipeError
    from stoker.pipelines.registry import name_of

    try:
        recipe.source.check(context)
    except StokerError as error:
        text = str(error).removeprefix(f"source {name_of(recipe.source)!r}: ")
        raise RecipeError(f"{where or recipe.corpus}: source: {text}") from error


def check_training(model: str, options: "dict[str, str]") -> None:
    """Refuse a model or an option that does not exist, before anything is started.

    Raises UsageError, and StokerError for what the user did not write: a plug-in's fault or a missing package.
    """
    with require_torch():
        from stoker.training.errors import TrainingError
        from stoker.training.run import model as models
        from stoker.training.run.options import parse_options

        if model in models.names():
            models.find(model)
        try:
            parse_options(model, options)
        except TrainingError as error:
            raise configuration.UsageError(str(error)) from None


@contextmanager
def require_torch() -> "Iterator[None]":
    """Turn a missing package of training into a StokerError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("torch", "webdataset", "tensorboard"):
            raise
        raise StokerError(f'training needs {error.name}, which is not installed; pip install "stoker[train]"') from None


@dataclass
class _Session:
    """A flow run from this terminal."""

    reporter: "ProgressReporter"
    url: str  # of the API of the Prefect server
    home: Path
    server_lost: bool = False

    @property
    def address(self) -> str:
        """The page of the Prefect server."""
        return self.url.removesuffix("/api")

    def result_of(self, state: "State[Any]") -> Any:  # Any: what the flow returned
        """The flow's result, or its exception. Raises Interrupted when the run was asked to stop."""
        if state.is_cancelled():
            raise signals.Interrupted
        try:
            return state.result()
        except StokerError:
            raise
        except Exception as error:
            self.check_server(error)
            if self.server_lost:
                raise self.lost() from error
            raise

    def check_server(self, error: Exception) -> None:
        """Raise StokerError if an error comes from a full disk under the home, or is Prefect's own failure."""
        from prefect.exceptions import PrefectHTTPStatusError

        from stoker.flows.services import prefect_server

        failed = isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error
        if not failed and not (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            return
        if full := prefect_server.full_disk(self.home):
            raise StokerError(f"{full}; {signals.RESUMES}") from error
        if failed:
            raise StokerError(f"{self.address}: the Prefect server failed ({error}); {signals.RESUMES}") from error

    def lost(self) -> StokerError:
        """The error to raise when the Prefect server ended in the middle of the run; a full disk ends it, too."""
        from stoker.flows.services import prefect_server

        reason = prefect_server.full_disk(self.home) or f"{self.address}: the Prefect server does not answer any more"
        return StokerError(f"{reason}; {signals.RESUMES}")


@contextmanager
def _flow_session(settings: Settings) -> "Iterator[_Session]":
    """A progress reporter on this terminal, and the Prefect server that flows here report to. Raises StokerError."""
    from stoker.flows import progress, runs
    from stoker.flows.services import prefect_server

    make_private(settings.home)
    with progress.terminal_progress(settings.home) as reporter:
        reporter.start_phase("starting")
        reporter.interruptible = True  # until the flow's own code runs
        with prefect_server.connected(settings) as url:
            session = _Session(reporter, url, settings.home)
            try:
                runs.mark_crashed_runs(settings.home)
                yield session
            except StokerError:
                raise
            except Exception as error:
                if signals.received() is not None:
                    raise
                session.check_server(error)
                if prefect_server.answers(url):
                    raise
                raise session.lost() from error
            session.server_lost = not prefect_server.answers(url)
        runs.forget(settings.home, reporter.token)
