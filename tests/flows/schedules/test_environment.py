"""What `stoker schedule` says of the S3 keys and clusters with which the scheduler will run."""

from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows import private
from stoker.flows.schedules import environment
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError, StorageRefused


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    private.schedule_key(tmp_path, make=True)
    return Settings(home=tmp_path, store="s3://bucket/corpora")


def have_keys(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stokerkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


def test_equal_keys_pass_and_others_are_warned_of_without_showing_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_keys(monkeypatch, "one-secret")
    environment.record(settings)
    assert environment.check(settings) == []
    have_keys(monkeypatch, "other-secret")
    (line,) = environment.check(settings)
    assert "are not those of this call (from env)" in line
    recorded = settings.home / private.SCHEDULER
    assert recorded.stat().st_mode & 0o777 == 0o600
    for text in (line, recorded.read_text()):
        assert "secret" not in text
        assert "stokerkey" not in text


def test_a_scheduler_without_keys_is_refused_unless_the_store_needs_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.record(settings)
    have_keys(monkeypatch, "one-secret")
    with pytest.raises(StorageRefused, match="`stoker up`, which will run the schedule, has no keys of S3"):
        environment.check(settings)
    assert environment.check(replace(settings, store="")) == []
    assert environment.check(replace(settings, store=str(settings.home / "store"))) == []


def test_a_scheduler_whose_keys_cannot_be_had_starts_without_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    environment.record(settings)
    assert "The config profile (nosuch) could not be found; schedules" in capsys.readouterr().err
    assert environment.check(replace(settings, store="")) == []
    monkeypatch.delenv("AWS_PROFILE")
    with pytest.raises(StorageRefused, match="has no keys of S3"):
        environment.check(settings)


def test_another_cluster_than_the_schedulers_is_refused(settings: Settings) -> None:
    own = replace(settings, store="", dask_address="tcp://10.0.0.1:8786")
    environment.record(own)
    assert environment.check(own) == environment.check(replace(own, dask_address="")) == []
    with pytest.raises(StokerError, match=r"ray_address: this call says 'ray://a:1', and `stoker up`"):
        environment.check(replace(own, ray_address="ray://a:1"))


def test_a_scheduler_that_wrote_nothing_down_is_not_compared(settings: Settings) -> None:
    assert environment.check(settings) == []
