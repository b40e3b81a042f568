"""Where a setting comes from, and what a wrong one says."""

import os
import sys
from pathlib import Path

import pytest

from stoker.flows.settings import Settings, _names, load, prepare_environment, shows_windows, table
from stoker.flows.settings_files import SettingsError
from stoker.storage.errors import StorageUnavailable


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    def workers(flag: str | None, variable: dict[str, str]) -> int:
        return load({"workers": flag}, environ=variable, cwd=tmp_path).workers

    assert workers(None, {}) == 0
    (tmp_path / "stoker.toml").write_text("workers = 2\n")
    assert workers(None, {}) == 2
    assert workers(None, {"STOKER_WORKERS": "3"}) == 3
    assert workers("4", {"STOKER_WORKERS": "3"}) == 4


def test_the_file_beside_a_recipe_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "stoker.toml").write_text('contact = "there"\nstore = "s3://of-a-stranger/x"\n')
    lines: list[str] = []
    own = load(recipe=recipes / "a.toml", environ={}, cwd=tmp_path, report=lines.append)
    assert own == load(environ={}, cwd=tmp_path)
    (line,) = lines
    assert line.startswith(f"{recipes / 'stoker.toml'} is not read")
    assert f"cd {recipes} or pass --config {recipes / 'stoker.toml'}" in line
    lines.clear()
    assert load(recipe=Path("a.toml"), environ={}, cwd=recipes, report=lines.append).contact == "there"
    assert lines == [f"settings from {recipes / 'stoker.toml'}"]


def test_the_working_directory_comes_before_the_users_own_file_key_by_key(tmp_path: Path) -> None:
    here, own = tmp_path / "here", tmp_path / "home" / ".config" / "stoker"
    here.mkdir()
    own.mkdir(parents=True)
    environ = {"HOME": str(tmp_path / "home")}
    (own / "stoker.toml").write_text('contact = "mine"\nworkers = 3\n')
    (here / "stoker.toml").write_text("workers = 4\n")
    lines: list[str] = []
    both = load(environ=environ, cwd=here, report=lines.append)
    assert (both.contact, both.workers) == ("mine", 4)
    assert lines == [f"settings from {here / 'stoker.toml'} over {own / 'stoker.toml'}"]
    assert load(environ=environ, cwd=tmp_path).workers == 3
    assert load(environ=environ | {"STOKER_WORKERS": "5"}, cwd=here).workers == 5


def test_all_private_addresses_with_a_recipe_is_a_warning(tmp_path: Path) -> None:
    for text, warnings in (("true", 1), ("10.0.0.0/8", 0), ("false", 0)):
        lines: list[str] = []
        load(recipe=tmp_path / "a.toml", environ={"STOKER_ALLOW_PRIVATE": text}, cwd=tmp_path, report=lines.append)
        assert len([line for line in lines if line.startswith("warning: allow_private is true")]) == warnings


def test_relative_paths_are_relative_to_where_they_are_written(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "a.toml").write_text('home = "state"\nstore = "../corpora"\n')
    found = load({"home": "mine"}, config="configs/a.toml", environ={}, cwd=tmp_path)
    assert found.home == tmp_path / "mine"
    assert found.store == str(tmp_path / "corpora")
    assert load(config="configs/a.toml", environ={}, cwd=tmp_path).home == configs / "state"
    assert load(environ={"STOKER_HOME": "x"}, cwd=tmp_path).home == tmp_path / "x"


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "file:///data", "memory:"])
def test_a_store_url_stays_as_it_is(url: str, tmp_path: Path) -> None:
    assert load(environ={"STOKER_STORE": url}, cwd=tmp_path).store == url


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STOKER_STOER": "x"}, "no setting is called STOKER_STOER; did you mean 'STOKER_STORE'?"),
        ({"STOKER_CONFGI": "x"}, "no setting is called STOKER_CONFGI; did you mean 'STOKER_CONFIG'?"),
        ({"STOKER_WORKERS": "many"}, "STOKER_WORKERS: found 'many', expected a whole number"),
        ({"STOKER_WORKERS": "-1"}, "STOKER_WORKERS: found '-1'"),
        ({"STOKER_RUNNER": "thread"}, "did you mean 'threads'?"),
        ({"STOKER_ALLOW_PRIVATE": "10.1.2.3/16"}, "STOKER_ALLOW_PRIVATE: '10.1.2.3/16': the address is not"),
        ({"STOKER_WEB_PORT": "70000"}, "from 1 to 65535"),
        ({"STOKER_WEB_HOST": "everywhere"}, "STOKER_WEB_HOST: found 'everywhere', expected an IP address, such as"),
        ({"STOKER_WEB_HOST": "fe80::1%eth0"}, "expected an IP address"),
        ({"STOKER_WEB_NAMES": "https://data.example.org"}, "found 'https://data.example.org', expected names without"),
        ({"STOKER_WEB_NAMES": "a.example,b.example:80"}, "STOKER_WEB_NAMES: found 'b.example:80'"),
        ({"STOKER_WEB_NAMES": "*.example"}, "STOKER_WEB_NAMES: found '*.example'"),
        ({"STOKER_WEB_NAMES": "a.example,"}, "STOKER_WEB_NAMES: found ''"),
        ({"STOKER_RETRY_S": "nan"}, "STOKER_RETRY_S"),
        ({"STOKER_S3_ENDPOINT": "localhost:9000"}, "http://"),
        ({"STOKER_PREFECT_URL": "https://me:secret@host/api"}, "an address with a password"),
    ],
)
def test_a_wrong_variable_says_which_and_what_was_expected(
    environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ=environ, cwd=tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker = 2\n", "unknown key 'worker'; did you mean 'workers'?"),
        ("workers = true\n", "workers: found True"),
        ("workers = 1.5\n", "workers: found 1.5"),
        ("workers = \n", "not readable as TOML"),
        ("home = 3\n", "home: found 3, expected text"),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "stoker.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(environ={}, cwd=tmp_path)
    assert message in str(refused.value)
    assert str(tmp_path / "stoker.toml") in str(refused.value)


def test_an_empty_variable_is_none_and_those_of_kubernetes_are_not_ours(tmp_path: Path) -> None:
    environ = {"STOKER_WORKERS": "", "STOKER_SERVICE_HOST": "10.0.0.1", "STOKER_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert load(environ=environ, cwd=tmp_path) == load(environ={}, cwd=tmp_path)


def test_settings_survive_the_way_to_another_process(tmp_path: Path) -> None:
    own = load({"runner": "processes"}, environ={"STOKER_RETRY_S": "0.5"}, cwd=tmp_path)
    assert Settings.from_json(own.to_json() | {"of_a_newer_version": 1}) == own


def test_the_truth_values_of_older_schedules_are_read(tmp_path: Path) -> None:
    own = load(environ={}, cwd=tmp_path)
    for stored, text in ((True, "true"), (False, ""), ("10.0.0.0/8", "10.0.0.0/8")):
        assert Settings.from_json(own.to_json() | {"allow_private": stored}).allow_private == text


def test_private_hosts_are_named_in_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "stoker.toml").write_text('allow_private = ["Intranet.example", "10.0.0.0/8"]')
    assert load(environ={}, cwd=tmp_path).allow_private == "intranet.example,10.0.0.0/8"
    assert load(environ={"STOKER_ALLOW_PRIVATE": "true"}, cwd=tmp_path).context(tmp_path).web.allow_private == "true"
    assert load(environ={"STOKER_ALLOW_PRIVATE": "no"}, cwd=tmp_path).context(tmp_path).web.allow_private == ""


def test_the_table_names_every_setting_once() -> None:
    rows = table()
    assert [row.variable for row in rows] == [f"STOKER_{name.upper()}" for name in _names()]
    assert all(row.default and row.meaning for row in rows)


def test_no_setting_is_a_secret() -> None:
    assert not [name for name in _names() if any(word in name for word in ("key", "secret", "password", "token"))]


def test_without_services_the_store_is_a_folder_in_home(tmp_path: Path) -> None:
    own = load(environ={}, cwd=tmp_path)
    assert own.open_store().url == str(tmp_path / ".stoker" / "store")


def test_corpora_in_a_server_that_is_down_are_not_looked_for_elsewhere(tmp_path: Path) -> None:
    from stoker.flows import running

    own = load(environ={}, cwd=tmp_path)
    running.save(own.home, running.Services(bucket="stoker"))
    with pytest.raises(StorageUnavailable, match="run `stoker up`, or set STOKER_STORE"):
        own.open_store()


def test_the_names_and_the_address_of_the_page_are_as_browsers_and_the_system_write_them(tmp_path: Path) -> None:
    variables = {"STOKER_WEB_NAMES": "Data.Example.org, 10.0.0.5,FD00::0005,[fd00::6]", "STOKER_WEB_HOST": "[::1]"}
    found = load(environ=variables, cwd=tmp_path)
    assert found.web_names == "data.example.org,10.0.0.5,[fd00::5],[fd00::6]"
    assert found.web_host == "::1"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS always has a display, but not for a session of SSH")
def test_a_browser_is_seen_where_there_is_a_display_or_the_user_chose_one() -> None:
    assert not shows_windows({})
    assert not shows_windows({"SSH_CONNECTION": "x", "DISPLAY": ""})
    for variable in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        assert shows_windows({variable: ":0"})


def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example, localhost")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")  # not left behind for other tests
    for _ in range(2):
        prepare_environment()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet.example,localhost,127.0.0.1,::1"
