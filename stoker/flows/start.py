"""Starts a flow from this terminal and returns what it came to; used by the command line and the demo."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows import settings as where
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from stoker.flows.progress import Board
    from stoker.pipelines.recipe import Recipe
    from stoker.storage.stores.store import Store
    from stoker.storage.versions.manifest import Manifest

_FLAGS = ("home", "store", "runner", "workers")


def settings_of(arguments: Namespace, recipe: Path | None = None) -> Settings:
    """The settings of this call."""
    flags = {name: getattr(arguments, name, None) for name in _FLAGS}
    return where.load(flags, recipe=recipe)


def manifest_of(store: "Store", reference: str) -> "Manifest":
    """The version that was named."""
    from stoker.storage.versions.manifest import load_manifest

    return load_manifest(store, reference)


def result_of(state: "State[Any]", next_step: str = "the same command resumes") -> Any:  # Any: what the flow returned
    """A flow's result, or its exception; a run that was asked to stop is an interrupted command."""
    if state.is_cancelled():
        raise KeyboardInterrupt(next_step)
    return state.result()


@contextmanager
def flows(settings: Settings) -> "Iterator[tuple[Board, str]]":
    """A board on this terminal, and the address of the Prefect server that flows of this process report to."""
    from stoker.flows import progress, runs
    from stoker.flows.services import prefect_server

    with progress.watched(settings.home) as board:
        board.phase("starting")
        board.blocking = True  # until a flow says otherwise, Ctrl-C cuts
        with prefect_server.connected(settings) as url:
            runs.bury(settings.home)
            board.blocking = False
            yield board, url.removesuffix("/api")
        runs.forget(settings.home, board.token)


def ingested(settings: Settings, recipe: "Recipe") -> "tuple[Manifest, bool]":
    """The version that a run of the flow made, watched on this terminal, and whether it is new."""
    store = settings.open_store()
    store.probe()  # before anything is started: what is wrong with a store is said at once
    with flows(settings) as (board, url):
        from stoker.flows.ingest import ingest as flow

        board.note(f"{recipe.corpus}: into {store.url}; watched at {url}")
        given = (dict(recipe.document), str(recipe.root), settings.to_json(), board.token)
        done = result_of(flow(*given, return_state=True))
    return manifest_of(store, done["reference"]), done["new"]


def check_training(model: str, options: "dict[str, str]") -> None:
    """Refuse a model or an option that does not exist, before anything is started. Raises StokerError."""
    with torch_needed():
        from stoker.training.run.options import parse_options

        parse_options(model, options)


@contextmanager
def torch_needed() -> "Iterator[None]":
    """Say how to install what training needs where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("torch", "webdataset", "tensorboard"):
            raise
        raise StokerError(f'training needs {error.name}, which is not installed; pip install "stoker[train]"') from None


def trained(
    settings: Settings, model: str, corpus: str, options: "dict[str, str]", *, resume: bool = False
) -> "dict[str, Any]":  # Any: JSON values
    """What a run of the flow came to (see ``stoker.flows.train``), watched on this terminal."""
    check_training(model, options)
    manifest = manifest_of(settings.open_store(), corpus)
    with flows(settings) as (board, url):
        from stoker.flows.train import train

        board.note(f"{model} on {manifest.reference}; watched at {url}")
        given = (model, manifest.reference, options, settings.to_json(), board.token, resume)
        state = train(*given, return_state=True)
    done: dict[str, Any] = result_of(state, "the same command with --resume goes on")
    return done
