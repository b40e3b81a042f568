"""The parameters of scheduled runs: what `stoker schedule` wrote is accepted, and nothing else; the recipe is read."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stoker.flows import private
from stoker.flows.schedules import record
from stoker.flows.schedules.parameters import Retries, RunRefused, for_ingest, for_training, resolve, schema, verify
from stoker.flows.settings import Settings
from stoker.pipelines.recipe import load
from stoker.storage.errors import StokerError

TEXT = 'corpus = "pages"\n[source]\nname = "local_files"\nfiles = "in/*.txt"\n'
DOCUMENT = {"corpus": "pages", "source": {"name": "local_files", "files": "in/*.txt"}}
REFUSED = "its parameters are not those that `stoker schedule` wrote in this home; run `stoker schedule` again"
EARLIER = "scheduled by an earlier version of Stoker; run `stoker schedule` again"
RETRIES = Retries(2, 600)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    private.schedule_key(tmp_path / "home", make=True)
    return Settings(home=tmp_path / "home", store=str(tmp_path / "store"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pages.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    return path


def test_a_schedule_carries_what_its_runs_ask_for_again(settings: Settings, path: Path) -> None:
    for_one = partial(for_ingest, settings, path, load(path), when="1h", trusted=False, retries=RETRIES, nonce="1")
    record.save(settings.home, "pages", record.Record(nonces=("1",)))
    for older_s, expected in ((None, {}), (604800, {"refresh": "kept", "older_than_s": 604800})):
        given = json.loads(json.dumps(for_one(refresh_older_s=older_s)))
        verify("ingest", "pages", given, settings)
        resolved = resolve("ingest", "pages", given, settings)
        assert {name: resolved[name] for name in ("refresh", "older_than_s") if name in resolved} == expected
    with pytest.raises(RunRefused, match="are not those that"):
        verify("ingest", "pages", given | {"older_than_s": 0}, settings)


def planned(settings: Settings, path: Path, *, trusted: bool = False, nonce: str = "1") -> dict[str, Any]:
    """What the Prefect server gives back of a scheduled ingest."""
    parameters = for_ingest(
        settings, path, load(path), when="0 3 * * * (UTC)", trusted=trusted, retries=RETRIES, nonce=nonce
    )
    record.save(settings.home, "pages", record.Record(nonces=(nonce,)))
    return dict(json.loads(json.dumps(parameters)))


@pytest.fixture
def ingest(settings: Settings, path: Path) -> dict[str, Any]:
    return planned(settings, path)


@pytest.fixture
def train(settings: Settings) -> dict[str, Any]:
    record.save(settings.home, "pages-lstm", record.Record(nonces=("2",)))
    parameters = for_training(settings, "pages", "lstm", {"epochs": "1"}, retries=RETRIES, nonce="2")
    return dict(json.loads(json.dumps(parameters)))


def checked_parameters(flow: str, name: str, given: Mapping[str, Any], own: Settings) -> dict[str, Any]:
    verify(flow, name, given, own)
    return resolve(flow, name, given, own)


def test_what_stoker_schedule_wrote_is_accepted(
    settings: Settings, ingest: dict[str, Any], train: dict[str, Any], tmp_path: Path
) -> None:
    checked = checked_parameters("ingest", "pages", ingest | {"token": "t"}, settings)
    assert checked == {
        "recipe": DOCUMENT,
        "root": str(tmp_path),
        "trusted": False,
        "token": "",
        "settings": settings.to_json(),
    }
    for corpus in ("pages", "pages@1", "pages@20"):
        checked = checked_parameters("train", "pages-lstm", train | {"corpus": corpus, "resume": True}, settings)
        assert (checked["corpus"], checked["resume"], checked["options"]) == (corpus, True, {"epochs": "1"})


def test_the_recipe_is_read_when_a_run_starts(settings: Settings, ingest: dict[str, Any], path: Path) -> None:
    path.write_text(TEXT + "[shards]\nsamples = 5\n")
    assert checked_parameters("ingest", "pages", ingest, settings)["recipe"]["shards"] == {"samples": 5}
    for text, message in {
        "corpus = ": "pages.toml: not TOML",
        TEXT + "samples = 5\n": "pages.toml: source: local_files has no option 'samples'",
        TEXT.replace("pages", "other"): "its corpus is 'other' now, and this schedule is for 'pages'",
        TEXT.replace("in/", "../"): "outside of the recipe's folder",
    }.items():
        path.write_text(text)
        with pytest.raises(StokerError) as refused:
            checked_parameters("ingest", "pages", ingest, settings)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(StokerError, match="no such file; expected a recipe in TOML"):
        checked_parameters("ingest", "pages", ingest, settings)


def test_a_recipe_that_others_can_write_is_not_obeyed(settings: Settings, ingest: dict[str, Any], path: Path) -> None:
    path.chmod(0o646)
    with pytest.raises(StokerError, match="every user may write it, and so choose what runs; chmod o-w"):
        checked_parameters("ingest", "pages", ingest, settings)
    path.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
        with pytest.raises(StokerError, match="belongs to another user"):
            checked_parameters("ingest", "pages", ingest, settings)
        os.chown(path, 0, 0)
        link = path.with_name("link.toml")
        link.symlink_to(path)
        os.lchown(link, 65534, 65534)
        with pytest.raises(StokerError, match="belongs to another user"):
            checked_parameters("ingest", "pages", planned(settings, link), settings)


def test_an_old_copy_is_not_run_again(settings: Settings, path: Path) -> None:
    trusted = planned(settings, path, trusted=True, nonce="old")
    checked_parameters("ingest", "pages", trusted, settings)
    planned(settings, path, nonce="new")
    with pytest.raises(RunRefused, match="an old copy: its schedule was changed or removed since"):
        checked_parameters("ingest", "pages", trusted, settings)
    record.remove(settings.home, "pages")
    with pytest.raises(RunRefused, match="an old copy"):
        checked_parameters("ingest", "pages", trusted, settings)


def test_a_schedule_of_an_earlier_version_is_to_be_made_again(settings: Settings, ingest: dict[str, Any]) -> None:
    nonce = {name: value for name, value in ingest.items() if name != "nonce"}
    for parameters in (nonce, ingest | {"recipe": DOCUMENT}, ingest | {"root": "/"}):
        with pytest.raises(RunRefused, match=EARLIER):
            checked_parameters("ingest", "pages", parameters, settings)


def test_prefects_page_has_a_title_for_each_parameter_that_a_person_reads(ingest: dict[str, Any]) -> None:
    properties = schema(ingest)["properties"]
    assert list(properties)[:4] == ["recipe", "corpus", "source", "when"]
    assert properties["trusted"]["type"] == "boolean"
    assert {"nonce", "seal", "token"}.isdisjoint(properties)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "/etc/passwd"},
        {"recipe": "pages.toml"},
        {"trusted": True},
        {"corpus": "other"},
        {"source": "other"},
        {"when": "every 1 s"},
        {"retries": 3},
        {"retry_wait_s": 1},
        {"nonce": "2"},
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


def test_a_missing_parameter_is_refused(settings: Settings, ingest: dict[str, Any]) -> None:
    for missing, message in {"seal": REFUSED, "trusted": "parameter 'trusted': missing"}.items():
        with pytest.raises(RunRefused, match=message):
            checked_parameters("ingest", "pages", {k: v for k, v in ingest.items() if k != missing}, settings)


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
    private.schedule_key(other.home, make=True)
    with pytest.raises(RunRefused, match=REFUSED):
        checked_parameters("ingest", "pages", ingest, other)


def test_resume_is_true_or_false(settings: Settings, train: dict[str, Any]) -> None:
    for value in (1, "yes", None):
        with pytest.raises(RunRefused, match=r"parameter 'resume': found .*, expected true or false"):
            checked_parameters("train", "pages-lstm", train | {"resume": value}, settings)


def test_a_cluster_other_than_that_of_stoker_up_is_refused(settings: Settings, path: Path) -> None:
    elsewhere = replace(settings, dask_address="tcp://10.0.0.1:8786")  # of the call of `stoker schedule`
    with pytest.raises(RunRefused, match=r"dask_address: the schedule says 'tcp://10.0.0.1:8786'"):
        checked_parameters("ingest", "pages", planned(elsewhere, path), settings)
