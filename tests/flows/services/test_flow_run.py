"""The parameters of scheduled runs: what `stoker schedule` wrote is accepted, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.flows import running
from stoker.flows.services.flow_run import RunRefused, checked_parameters
from stoker.flows.services.schedule import ingest_parameters, training_parameters
from stoker.flows.settings import Settings
from stoker.pipelines.recipe import parse
from stoker.storage.errors import StokerError

DOCUMENT = {"corpus": "pages", "source": {"name": "local_files", "files": "in/*.txt"}}
REFUSED = "its parameters are not those that `stoker schedule` wrote in this home; run `stoker schedule` again"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    running.schedule_key(tmp_path / "home", make=True)
    return Settings(home=tmp_path / "home", store=str(tmp_path / "store"))


@pytest.fixture
def ingest(settings: Settings, tmp_path: Path) -> dict[str, Any]:
    """What the Prefect server gives back of a scheduled ingest."""
    recipe = parse(DOCUMENT, root=tmp_path)
    return dict(json.loads(json.dumps(ingest_parameters(settings, recipe, trusted=False))))


@pytest.fixture
def train(settings: Settings) -> dict[str, Any]:
    return dict(json.loads(json.dumps(training_parameters(settings, "pages-lstm", "pages", "lstm", {"epochs": "1"}))))


def test_what_stoker_schedule_wrote_is_accepted(
    settings: Settings, ingest: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    checked = checked_parameters("ingest", "pages", ingest | {"token": "t"}, settings)
    assert (checked["recipe"], checked["root"], checked["trusted"]) == (DOCUMENT, str(tmp_path), False)
    assert (checked["token"], checked["settings"]) == ("", settings.to_json())
    assert "seal" not in checked  # the flow takes none
    for corpus in ("pages", "pages@1", "pages@20"):
        checked = checked_parameters("train", "pages-lstm", train | {"corpus": corpus, "resume": True}, settings)
        assert (checked["corpus"], checked["resume"]) == (corpus, True)


@pytest.mark.parametrize(
    "change",
    [
        {"root": "/"},
        {"root": "somewhere"},
        {"trusted": True},
        {"recipe": DOCUMENT | {"source": {"name": "local_files", "files": "/etc/passwd"}}},
        {"recipe": {}},
        {"settings": {}},
        {"seal": ""},
        {"seal": "0" * 64},
        {"seal": "\N{SNOWMAN}\ud800"},
    ],
)
def test_changed_parameters_of_an_ingest_are_refused(
    settings: Settings, ingest: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", ingest | change, settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", "s3://other"),
        ("s3_endpoint", "http://10.0.0.1"),
        ("allow_private", "true"),
        ("home", "/tmp/other"),
        ("dask_address", "tcp://10.0.0.1:8786"),
        ("more", ""),
    ],
)
def test_changed_settings_are_refused(settings: Settings, ingest: dict[str, Any], name: str, value: str) -> None:
    changed = ingest | {"settings": ingest["settings"] | {name: value}}
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", changed, settings)


@pytest.mark.parametrize("missing", ["seal", "trusted"])
def test_a_missing_parameter_is_refused_as_those_of_earlier_versions_are(
    settings: Settings, ingest: dict[str, Any], missing: str
) -> None:
    del ingest[missing]
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", ingest, settings)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "cnn"},
        {"options": {"epochs": "2"}},
        {"corpus": "other"},
        {"corpus": "other@1"},
        {"corpus": "pages@"},
        {"corpus": "pages@0"},
        {"corpus": "pages@1@2"},
        {"corpus": "pages@-1"},
        {"corpus": "pages@\N{ARABIC-INDIC DIGIT ONE}"},
        {"corpus": "pages/../other"},
        {"corpus": "pages@1\n"},
        {"corpus": ""},
    ],
)
def test_a_training_is_of_its_model_options_and_corpus(
    settings: Settings, train: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("train", "pages-lstm", train | change, settings)


def test_a_seal_is_of_one_deployment_flow_and_home(
    settings: Settings, ingest: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    for deployment in ("", "other", "pages-lstm"):  # "": a run without a deployment
        with pytest.raises(RunRefused, match=REFUSED):
            checked_parameters("ingest", deployment, ingest, settings)
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", ingest | {"seal": train["seal"]}, settings)
    other = replace(settings, home=tmp_path / "other")
    with pytest.raises(StokerError, match="schedule-key: missing; run `stoker down` and `stoker up`"):
        checked_parameters("ingest", "pages", ingest, other)
    running.schedule_key(other.home, make=True)
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", ingest, other)


def test_resume_is_true_or_false(settings: Settings, train: dict[str, Any]) -> None:
    for value in (1, "yes", None):
        with pytest.raises(RunRefused, match=r"parameter 'resume': found .*, expected bool"):
            checked_parameters("train", "pages-lstm", train | {"resume": value}, settings)


def test_a_cluster_other_than_that_of_stoker_up_is_refused(settings: Settings, tmp_path: Path) -> None:
    elsewhere = replace(settings, dask_address="tcp://10.0.0.1:8786")  # of the call of `stoker schedule`
    parameters = ingest_parameters(elsewhere, parse(DOCUMENT, root=tmp_path), trusted=False)
    with pytest.raises(RunRefused, match=r"dask_address: the schedule says 'tcp://10.0.0.1:8786'"):
        checked_parameters("ingest", "pages", parameters, settings)
