"""The trained model of a run, found by the run's name and read from one of its checkpoints."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from stoker.storage.stores.store import Store
from stoker.training.errors import TrainingError
from stoker.training.results.checkpoints import CheckpointInfo, best_of, infos, runs
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.averaging import weights_of
from stoker.training.run.checkpoint import Checkpoint
from stoker.training.run.devices import device_of
from stoker.training.run.model import Model, Schema, is_own, plugin_identity
from stoker.training.run.options import TrainOptions, parse_options

Which = Literal["best", "last"]
_MAX_NAMED = 6  # runs, in a message
_DATA_OPTIONS = ("batch_size", "seed", "split", "eval_split", "hold_out")  # that say what was trained on


@dataclass(frozen=True, slots=True)
class Trained:
    """A model as a run left it, ready to be used. ``options``: those that say what it was trained on, else defaults."""

    corpus: str  # in whose folder the run lies
    info: CheckpointInfo  # of the checkpoint
    model: Model
    options: TrainOptions
    schema: Schema
    module: nn.Module  # on the device, in evaluation mode
    device: torch.device

    @property
    def name(self) -> str:
        """The run's name among those of all corpora."""
        return f"{self.corpus}/{self.info.run}"


def load_trained(
    store: Store,
    run: str,
    *,
    near: str = "",
    checkpoint: Which = "best",
    device: str = "auto",
    network: str = "",
) -> Trained:
    """The model of a run.

    Args:
        store: where it is.
        run: its name, as ``cnn-0001``, or that of a model, for its newest run; ``CORPUS/RUN`` where several
            corpora have one of that name.
        near: the corpus that is searched first.
        checkpoint: ``best``: the one whose weights had the greatest score in an evaluation; ``last``: the newest.
        device: to compute on.
        network: of a run of a network of the user's own, where that is: ``my_net.py:build``. What a store names is
            not imported: whoever can write there could name any code.

    Raises TrainingError, StorageError.
    """
    corpus, name = find_run(store, run, near=near)
    found = _best(store, corpus, name) if checkpoint == "best" else checkpoints.newest(store, corpus, name)
    if found is None:
        raise TrainingError(f"{corpus}/{name}: none of its checkpoints is whole; train it anew")
    info, state = found
    model, options = parse_options(_model_name(f"{corpus}/{name}", info.identity, network), _options(info.identity))
    _refuse_other_code(f"{corpus}/{name}", info.identity, model)
    place, schema = device_of(device), state["facts"]
    with checkpoints.fitting(f"{corpus}/{name}", str(info.identity["model"])):  # a plug-in may be another than it was
        with torch.random.fork_rng(devices=[]):  # building draws weights
            module = model.build(schema)
        module.load_state_dict(weights_of(state))
    return Trained(corpus, info, model, options, schema, module.to(place).eval(), place)


def _model_name(run: str, identity: Mapping[str, Any], network: str) -> str:  # Any: JSON values
    """The name of the model that is imported: of code of the user's own as the caller names it."""
    saved = str(identity["model"])
    if is_own(saved) and not is_own(network):
        raise TrainingError(
            f"{run}: its network is code of its own, {saved[:200]!r}, which is not run because a store names it; "
            "name it yourself: --network FILE.py:FUNCTION (in Python: network=...)"
        )
    if network and not is_own(saved):
        raise TrainingError(f"{run}: its model is {saved!r}, no network of one's own; leave --network out")
    return network or saved


def _refuse_other_code(run: str, identity: Mapping[str, Any], model: Model) -> None:  # Any: JSON values
    """Raise TrainingError if a network of one's own is not the code that was trained."""
    now = plugin_identity(model)
    if is_own(str(identity["model"])) and now["sha256"] != identity.get("sha256"):
        raise TrainingError(
            f"{run}: {now['class']} is not the code that it was trained with (its file's SHA-256 differs); give the "
            "file as it was, or train it anew"
        )


def find_run(store: Store, text: str, *, near: str = "") -> tuple[str, str]:
    """Corpus and name of a run. Raises TrainingError if none, or none for sure, is meant; see ``load_trained``."""
    corpus, _, wanted = text.rpartition("/")
    if not corpus and near and (name := _run_in(store, near, wanted)):
        return near, name
    corpora = list(store.folders())
    found = [(one, name) for one in corpora if corpus in ("", one) and (name := _run_in(store, one, wanted))]
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(f"{one}/{name}" for one, name in found[:_MAX_NAMED])
        raise TrainingError(f"run {text!r} is in {len(found)} corpora; say which: {named}")
    known = [f"{one}/{name}" for one in corpora for name in runs(store, one) if _run_in(store, one, name)]
    close = difflib.get_close_matches(text, [*known, *(one.rpartition("/")[2] for one in known)], n=1)
    there = f"there are: {', '.join(known[-_MAX_NAMED:])}" if known else "there is none yet; `stoker train` makes one"
    hint = f"did you mean {close[0]!r}?" if close else there
    raise TrainingError(f"{store.url}: no run with a checkpoint is called {text!r}; {hint}")


def _run_in(store: Store, corpus: str, text: str) -> str:
    """The run of this name in a corpus, or else the newest of the model of this name; "" if there is none."""
    names = runs(store, corpus)
    if text in names:
        return text if next(infos(store, corpus, text), None) else ""
    for name in reversed(names):  # a run is called after its model
        model, _, number = name.rpartition("-")
        if model == text and number.isdecimal() and next(infos(store, corpus, name), None):
            return name
    return ""


def _best(store: Store, corpus: str, run: str) -> Checkpoint | None:
    """The checkpoint with the greatest score; without an evaluation, or if that one is damaged, the newest."""
    for info in _candidates(list(infos(store, corpus, run))):
        state = checkpoints.load(store, info)
        if state is not None:
            return Checkpoint(info, state)
    return None


def _candidates(found: list[CheckpointInfo]) -> Iterator[CheckpointInfo]:
    if best := best_of(found):
        yield best
    yield from found


def _options(identity: dict[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """The options of a run by their present names."""
    training = dict(identity.get("training", {}))
    training["eval_split"] = training.pop("held_out", "")  # its name in an identity
    chosen = {name: training[name] for name in _DATA_OPTIONS if name in training}
    if "hold_out" in chosen:
        chosen["hold_out"] = str(chosen["hold_out"])
    return {**chosen, **identity.get("options", {})}
