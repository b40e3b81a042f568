"""The parameters of scheduled runs: made and sealed by `stoker schedule`, checked when a run starts.

They name the recipe's file and do not hold it: the file is read when the run starts, so an edited recipe is what runs.
Whoever can write to the Prefect server chooses a run's parameters. So they carry a seal (see ``seal``) over the file's
path, the settings and whether the recipe is trusted, and a number that changes with each scheduling (see ``record``).
The file itself is the owner's word, and must be one that nobody else can write.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows import private
from stoker.flows.schedules import record, seal
from stoker.flows.settings import Settings, parse_settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from stoker.pipelines.recipe import Recipe

NONCE = "nonce"
_OF_WORKER = ("home", "prefect_url", "s3_port", "prefect_port", "web_port")
_CLUSTERS = ("ray_address", "dask_address")  # whoever answers there runs code here: results are pickles
_COMMON: dict[str, type] = {
    "when": str,
    "settings": dict,
    "retries": int,
    "retry_wait_s": int,
    NONCE: str,
    "token": str,
    seal.SEAL: str,
}
_KINDS = {
    "ingest": _COMMON
    | {"recipe": str, "corpus": str, "source": str, "trusted": bool, "refresh": str, "older_than_s": int},
    "train": _COMMON | {"model": str, "corpus": str, "options": dict, "resume": bool},
}
_OPTIONAL = {"token", "resume", "refresh", "older_than_s", seal.SEAL}  # a missing seal is a wrong one
_FOR_FLOW = {
    "ingest": ("trusted", "refresh", "older_than_s"),
    "train": ("model", "corpus", "options", "resume"),
}
_TITLES = {
    "recipe": "Recipe: the file, read when a run starts",
    "corpus": "Corpus",
    "source": "Source of its candidates",
    "when": "When it runs",
    "trusted": "Trusted: whether the recipe's paths may leave its folder",
    "refresh": "Refresh: each run asks whether what is kept has changed",
    "older_than_s": "Refresh of what was seen last so many seconds ago",
    "model": "Model",
    "options": "Options of the training",
    "retries": "Retries of a failed run",
    "retry_wait_s": "Seconds before each retry",
    "settings": "Settings",
}


class RunRefused(StokerError):
    """A scheduled run has parameters that no `stoker schedule` wrote, or of a schedule that is no more."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How a run is tried again that failed for a reason which may pass."""

    count: int = 2
    wait_s: int = 600


def for_ingest(
    settings: Settings,
    path: Path,
    recipe: "Recipe",
    *,
    when: str,
    trusted: bool,
    retries: Retries,
    nonce: str,
    refresh_older_s: int | None = None,
) -> dict[str, Any]:  # Any: JSON values
    """The sealed parameters of the schedule of a recipe's file. Raises StokerError when the home has no key.

    ``refresh_older_s``: each run asks whether what is kept and was seen last so long ago has changed; None: none does.
    """
    from stoker.pipelines.registry import name_of

    own: dict[str, Any] = {
        "recipe": str(path),
        "corpus": recipe.corpus,
        "source": name_of(recipe.source),
        "trusted": trusted,
    }
    if refresh_older_s is not None:
        own |= {"refresh": "kept", "older_than_s": refresh_older_s}
    return _sealed(settings, "ingest", recipe.corpus, own, when, retries, nonce)


def for_training(
    settings: Settings, corpus: str, model: str, options: Mapping[str, str], *, retries: Retries, nonce: str
) -> dict[str, Any]:  # Any: JSON values
    """The sealed parameters of the schedule of a training. Raises StokerError when the home has no key."""
    own = {"corpus": corpus, "model": model, "options": dict(options)}
    name = training_name(corpus, model)
    return _sealed(settings, "train", name, own, "on every new version", retries, nonce)


def training_name(corpus: str, model: str) -> str:
    """The name of the schedule of a training."""
    return f"{corpus}-{model}"


def _sealed(
    settings: Settings,
    flow: str,
    name: str,
    own: dict[str, Any],  # Any: JSON values
    when: str,
    retries: Retries,
    nonce: str,
) -> dict[str, Any]:  # Any: as above
    parameters = own | {
        "when": when,
        "retries": retries.count,
        "retry_wait_s": retries.wait_s,
        "settings": settings.to_json(),
        NONCE: nonce,
    }
    return parameters | {seal.SEAL: seal.make(private.schedule_key(settings.home), flow, name, parameters)}


_WORDS = {bool: "true or false", int: "a whole number", str: "a text", dict: "an object"}


def schema(parameters: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values and JSON Schema
    """The JSON Schema by which Prefect's page shows the parameters of a schedule."""
    kinds = {bool: "boolean", int: "integer", dict: "object"}
    shown = [name for name in _TITLES if name in parameters]
    properties = {
        name: {"title": _TITLES[name], "type": kinds.get(type(parameters[name]), "string"), "position": position}
        for position, name in enumerate(shown)
    }
    return {"title": "Parameters", "type": "object", "properties": properties}


def verify(flow: str, name: str, given: Mapping[str, Any], own: Settings) -> None:  # Any: JSON values
    """Raise RunRefused unless `stoker schedule` wrote these parameters for the schedule ``name``, and they still hold.

    ``own`` are the settings of `stoker up`; ``name`` is that of the run's deployment, "" if it has none.
    """
    kinds = _KINDS[flow]
    if isinstance(given.get("recipe"), Mapping) or "root" in given or (NONCE not in given and seal.SEAL in given):
        raise RunRefused("scheduled by an earlier version of Stoker; run `stoker schedule` again")
    for parameter, value in given.items():
        if parameter not in kinds:
            raise RunRefused(f"parameter {parameter!r:.80}: unknown; expected {', '.join(sorted(kinds))}")
        if not isinstance(value, kinds[parameter]) or (isinstance(value, bool) and kinds[parameter] is int):
            raise RunRefused(f"parameter {parameter!r}: found {value!r:.80}, expected {_WORDS[kinds[parameter]]}")
    missing = sorted(set(kinds) - _OPTIONAL - set(given))
    if missing:
        raise RunRefused(f"parameter {missing[0]!r}: missing; run `stoker schedule` again")
    if not all(isinstance(value, str) for value in given.get("options", {}).values()):
        raise RunRefused("parameter 'options': expected text for each option")
    if not name or not seal.is_valid(private.schedule_key(own.home), flow, name, given):
        raise RunRefused(
            "its parameters are not those that `stoker schedule` wrote in this home; run `stoker schedule` again"
        )
    kept = record.load(own.home, name)
    if kept is None or not any(hmac.compare_digest(nonce, given[NONCE]) for nonce in kept.nonces):
        raise RunRefused(
            "an old copy: its schedule was changed or removed since; run it anew from the deployment, or schedule again"
        )


def is_of_home(settings: Settings, name: str, given: Mapping[str, Any]) -> bool:  # Any: JSON values
    """Whether a run's parameters were sealed in this home, by an earlier schedule too."""
    flow = "train" if "model" in given else "ingest"
    return bool(name) and seal.is_valid(private.schedule_key(settings.home), flow, name, given)


def resolve(flow: str, name: str, given: Mapping[str, Any], own: Settings) -> dict[str, Any]:  # Any: JSON values
    """What a flow takes, from the parameters of a run that ``verify`` passed: the recipe is read from its file.

    Raises StokerError: RecipeError for a recipe that is missing, broken, or of another user.
    """
    settings = _settings(given["settings"], own)
    parameters = {parameter: given[parameter] for parameter in _FOR_FLOW[flow] if parameter in given}
    if flow == "ingest":
        recipe = read_recipe(Path(given["recipe"]), name)
        from stoker.pipelines.stages.trust import check_paths

        check_paths(recipe, settings.context(recipe.root, trusted=given["trusted"]))
        parameters |= {"recipe": dict(recipe.document), "root": str(recipe.root)}
    # No token: it names files of a run that a terminal watches, and nobody watches this one.
    return parameters | {"settings": settings.to_json(), "token": ""}


def read_recipe(path: Path, corpus: str) -> "Recipe":
    """The recipe of a schedule from its file, as it is now. Raises StokerError."""
    from stoker.pipelines.recipe import load

    recipe = load(path, only_ours=True)
    if recipe.corpus != corpus:
        raise RunRefused(
            f"{path}: its corpus is {recipe.corpus!r} now, and this schedule is for {corpus!r}; schedule the file "
            f"again, and end this one by `stoker schedule --remove {corpus}`"
        )
    return recipe


def _settings(given: Mapping[str, Any], own: Settings) -> Settings:  # Any: JSON values
    """The settings that a schedule holds, where the run takes place being the worker's."""
    for name in _CLUSTERS:
        if given.get(name) not in ("", None, getattr(own, name)):
            raise RunRefused(
                f"{name}: the schedule says {given[name]!r:.200}, `stoker up` runs with {getattr(own, name)!r}; "
                f"start `stoker up` with STOKER_{name.upper()} and schedule again"
            )
    chosen = {name: value for name, value in given.items() if name not in _OF_WORKER}
    kept = {name: getattr(own, name) for name in (*_OF_WORKER, *_CLUSTERS)}
    return replace(parse_settings(chosen, own.home), **kept)
