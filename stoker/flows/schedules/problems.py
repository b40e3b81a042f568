"""What keeps the next run of a schedule from its work, and what that run will change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stoker.flows import running
from stoker.flows.report.format import visible
from stoker.flows.schedules import environment, parameters
from stoker.flows.settings import Settings
from stoker.storage.errors import NotFound, StokerError

POOL = "stoker"
MAX_REASON = 400  # characters


def as_scheduler(settings: Settings) -> Settings:
    """The settings with the clusters that the scheduler has: it runs the schedules."""
    ray = environment.recorded_address(settings, "ray_address")
    dask = environment.recorded_address(settings, "dask_address")
    return replace(
        settings,
        ray_address=settings.ray_address if ray is None else ray,
        dask_address=settings.dask_address if dask is None else dask,
    )


def find(flow: str, recipe: str, deployment: Mapping[str, Any], own: Settings) -> tuple[str, str]:  # Any: JSON values
    """A problem and a warning of a deployment, each "" for none.

    ``own``: see ``as_scheduler``. ``recipe``: its file, as people see it.
    """
    if deployment.get("work_pool_name") != POOL:
        return "its work pool is gone; run `stoker down` and `stoker up`, or schedule it again", ""
    if not own.prefect_url and running.load(own.home).find_alive("schedule") is None:
        log = own.home / "logs" / "schedule.log"
        return f"the scheduler does not run; see {log}, run `stoker down` and `stoker up`", ""
    given = deployment.get("parameters") or {}
    try:
        parameters.verify(flow, str(deployment["name"]), given, own)
        resolved = parameters.resolve(flow, str(deployment["name"]), given, own)
    except StokerError as error:
        return visible(str(error), most=MAX_REASON), ""
    return "", _recipe_warning(recipe, resolved) if flow == "ingest" else ""


_digests: dict[tuple[str, str, int], str] = {}  # of versions, which never change


def _recipe_warning(file: str, resolved: Mapping[str, Any]) -> str:  # Any: what a flow takes
    """Whether the newest version was made by another recipe than the file now says."""
    from pathlib import Path

    from stoker.pipelines.recipe import parse
    from stoker.pipelines.stages.pinning import pinned
    from stoker.storage.versions import catalog
    from stoker.storage.versions.manifest import load_manifest

    recipe, settings = parse(resolved["recipe"], root=Path(resolved["root"])), Settings.from_json(resolved["settings"])
    try:
        store = settings.open_store()
        recipe = pinned(recipe, settings.context(recipe.root, trusted=resolved.get("trusted") is True), store)
        newest = max(catalog.versions(store, recipe.corpus), default=None)
        if newest is None:
            return ""
        key = (store.url, recipe.corpus, newest)
        if key not in _digests:
            _digests[key] = load_manifest(store, f"{recipe.corpus}@{newest}").recipe_digest
    except NotFound:
        return ""
    except StokerError as error:
        return visible(str(error), most=MAX_REASON)
    if _digests[key] == recipe.digest:
        return ""
    return f"{recipe.corpus}@{newest} was made by another recipe than {file} is now, which the next run will use"
