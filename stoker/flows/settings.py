"""Settings: where Stoker runs. From flags, STOKER_* variables, stoker.toml and defaults, in this order.

``settings_files`` says which stoker.toml is read.

The only module that reads the environment. No setting is a secret: keys of an S3 store come from boto3's own chain
(AWS_ACCESS_KEY_ID, a profile, an instance's role); keys of the S3 server of `stoker up` come from a private file.
"""

import dataclasses
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stoker.flows import logs, settings_files
from stoker.flows.settings_files import SettingsError
from stoker.storage.errors import StokerError, StorageUnavailable

if TYPE_CHECKING:
    from stoker.pipelines.source import Context
    from stoker.storage.stores.store import Store

PREFIX = "STOKER_"
FILE = settings_files.NAME
RUNNERS = ("threads", "processes", "ray", "dask")
_CHOICES = {"runner": RUNNERS, "log_level": logs.LEVELS, "log_format": logs.FORMATS}
# Kubernetes and Docker set these for a service that is called "stoker": they are not misspelt settings.
_SERVICE_VARIABLES = re.compile(
    r"STOKER(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_[A-Z]+)?)?)"
)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_USER_INFO = re.compile(r"://[^/@]*@")


class UsageError(StokerError):
    """A flag, its value or a combination of flags that makes no sense: exit code 2."""


class Setting(NamedTuple):
    """A row of the table of settings in the README."""

    variable: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Settings:
    """Every setting; ``_MEANINGS`` says what each is for. ``load`` makes paths absolute."""

    home: Path = Path(".stoker")
    store: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    contact: str = ""
    allow_private: str = ""  # see stoker.pipelines.web.http.allowed
    requests_per_second: float = 2.0
    runner: str = "threads"
    workers: int = 0
    ray_address: str = ""
    dask_address: str = ""
    attempts: int = 5
    retry_s: float = 2.0
    patience_s: float = 300.0
    prefect_url: str = ""
    s3_port: int = 8333
    prefect_port: int = 4200
    web_port: int = 8080
    web_host: str = "127.0.0.1"
    web_names: str = ""
    log_level: str = "warning"
    log_format: str = "text"
    keep_runs_days: int = 30

    def open_store(self, *, reading: bool = False) -> "Store":
        """The store that the settings name. Raises StorageRefused, StorageUnavailable.

        ``reading``: nothing will be written, so a folder that is named and not there is refused.
        """
        from stoker.flows import private, running
        from stoker.storage.stores.urls import check_there, open_store

        if self.store:
            store = open_store(self.store, endpoint=self.s3_endpoint or None, region=self.s3_region or None)
            if reading:
                check_there(store)
            return store
        services = running.load(self.home)
        if not services.bucket:
            return open_store(str(self.home / "store"), endpoint=self.s3_endpoint, region=self.s3_region)
        server = services.find_alive("s3")
        if server is None:
            up = services.supervisor is not None and services.supervisor.alive and services.ready
            how = "`stoker up` runs without it, as it was told of another store: run `stoker down`, then `stoker up`"
            raise StorageUnavailable(
                f"the corpora lie in the S3 server of `stoker up` ({self.home}), which is not running; "
                f"{how if up else 'run `stoker up`'}, or set STOKER_STORE to another store"
            )
        access_key, secret_key = private.credentials(self.home)
        return open_store(f"s3://{services.bucket}", endpoint=server.url, access_key=access_key, secret_key=secret_key)

    def context(self, root: Path, *, trusted: bool = False) -> "Context":
        """The context that sources read with: web client, scratch folder, and ``root``, the recipe's folder.

        ``trusted``: whether paths of the recipe may leave that folder.
        """
        from stoker.pipelines.source import Context
        from stoker.pipelines.web.client import Web

        web = Web(contact=self.contact, allow_private=self.allow_private, requests_per_second=self.requests_per_second)
        home = self.home
        return Context(
            root=root,
            web=web,
            scratch=home / "scratch",
            trusted=trusted,
            downloads=home / "downloads",
            notes=home / "notes",
        )

    @property
    def cluster(self) -> str:
        """The address of the user's own Ray or Dask cluster, if the runner uses one."""
        return {"ray": self.ray_address, "dask": self.dask_address}.get(self.runner, "")

    @property
    def slots(self) -> int:
        """Partitions that run at the same time."""
        return self.workers or os.cpu_count() or 1

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The settings as JSON values, for another process."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Settings":  # Any: JSON values
        """The settings from ``to_json``; unknown names (of another version of Stoker) are left out."""
        values = {name: content[name] for name in _names() if name in content}
        if isinstance(values.get("allow_private"), bool):  # schedules made by version 0.1 hold a truth value
            values["allow_private"] = "true" if values["allow_private"] else ""
        return cls(**values | {"home": Path(values["home"])})


_MEANINGS = {
    "home": "folder of everything that `stoker up` and runs keep on this machine",
    "store": "where corpora lie: `s3://bucket/prefix`, `file:///folder` or a path",
    "s3_endpoint": "address of an S3 server other than Amazon's, for example `http://10.0.0.5:9000`",
    "s3_region": "region of the S3 store",
    "contact": "your e-mail address or web page, in the User-Agent of every request to web sites",
    "allow_private": "hosts and networks of your own that may be fetched from though their addresses are private: "
    "`intranet.example,.lab.example,10.1.0.0/16`; `true`: all",
    "requests_per_second": "requests to one host in a second, at most; 0: as fast as it answers",
    "runner": "what runs the partitions: `threads`, `processes`, `ray` or `dask`",
    "workers": "partitions that run at the same time",
    "ray_address": "a Ray cluster, `ray://host:10001`",
    "dask_address": "a Dask scheduler, `tcp://host:8786`",
    "attempts": "how often a partition is tried when its source or the store is unavailable",
    "retry_s": "seconds before the second attempt; doubles each time, with jitter",
    "patience_s": "seconds that a training or stream waits for an S3 store that is out of reach, before it ends",
    "prefect_url": "API of a Prefect server of your own, `http://host:4200/api`; `PREFECT_API_AUTH_STRING` or "
    "`PREFECT_API_KEY` says who you are",
    "s3_port": "port of the S3 server of `stoker up`; a free one if it is taken",
    "prefect_port": "port of the Prefect server of `stoker up`; a free one if it is taken",
    "web_port": "port of the web page of `stoker up`; a free one if it is taken",
    "web_host": "address at which the web page of `stoker up` listens, for example `0.0.0.0` in a container",
    "web_names": "host names of the web page besides localhost, `data.example.org`, separated by commas",
    "log_level": "least level of log lines: `debug`, `info`, `warning` or `error`; `-v` and `-q` are the first and the "
    "last; services and scheduled runs write `info` into their logs, too",
    "log_format": "`text`, or `json`: each line of a log is one JSON object",
    "keep_runs_days": "days after which the Prefect server of `stoker up` forgets a run that ended",
}
_DEFAULT_TEXTS = {  # for the table, where the default value alone says too little
    "store": "the S3 server of `stoker up`; before its first start, the folder `store` in STOKER_HOME",
    "s3_endpoint": "Amazon's",
    "s3_region": "boto3's choice",
    "contact": "none",
    "allow_private": "false",
    "workers": "0: one per core",
    "ray_address": "a local one for each run",
    "dask_address": "a local one for each run",
    "prefect_url": "the server of `stoker up`, else a temporary one for each run",
    "web_names": "none",
}


def table() -> list[Setting]:
    """All settings, for the README."""
    rows = []
    for field in dataclasses.fields(Settings):
        name, default = field.name, field.default
        rows.append(Setting(PREFIX + name.upper(), _DEFAULT_TEXTS.get(name, str(default)), _MEANINGS[name]))
    return rows


def load(
    flags: Mapping[str, object] | None = None,
    *,
    recipe: Path | None = None,
    config: str = "",
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> Settings:
    """The settings of a call: flags (None = not given) before environment before stoker.toml before defaults.

    Relative paths in a stoker.toml are relative to its folder, others to the working directory. Raises SettingsError,
    and UsageError for the value of a flag.

    Args:
        flags: values by the settings' names.
        recipe: the recipe that the call is about; a stoker.toml beside it is not read, which is reported.
        config: a file that is read in place of stoker.toml in the working directory and the user's own.
        environ: the variables; the process's own by default.
        cwd: the working directory.
        report: called with a line for people: which files were read, and what is dangerous.
    """
    cwd = (cwd or Path.cwd()).resolve()
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {"home": cwd / Settings.home}  # Any: what _checked returns
    variables = _variables(environ)
    files = settings_files.read(environ, cwd, config, report)
    for path, document in files:
        for name, value in document.items():
            if name not in _names():
                raise SettingsError(f"{path}: unknown key {name!r}; {_nearest(name, _names())}")
            values[name] = _checked(name, value, path.parent, f"{path}: {name}")
    for name, text in variables.items():
        values[name] = _checked(name, text, cwd, PREFIX + name.upper())
    for name, value in (flags or {}).items():
        if value is not None:
            try:
                values[name] = _checked(name, value, cwd, f"--{name.replace('_', '-')}")
            except SettingsError as error:
                raise UsageError(str(error)) from None
    settings = Settings(**values)
    _report(settings, [path for path, _ in files], recipe, report)
    return settings


def _report(settings: Settings, files: list[Path], recipe: Path | None, report: Callable[[str], object]) -> None:
    if files:
        report(f"settings from {' over '.join(str(path) for path in reversed(files))}")
    if recipe is None:
        return
    beside = Path(os.path.realpath(recipe)).parent / FILE  # Path.resolve raises RuntimeError for a circle of links
    if beside.is_file() and not any(beside.samefile(path) for path in files):
        report(
            f"{beside} is not read: settings come from the working directory and from your own file, never from a "
            f"recipe's folder; to use it, cd {beside.parent} or pass --config {beside}"
        )
    if settings.allow_private == "true":
        report(
            "warning: allow_private is true, so the recipe can fetch from every host of your network; name those that "
            "you mean, for example STOKER_ALLOW_PRIVATE=intranet.example,10.1.0.0/16"
        )


def parse_settings(content: Mapping[str, Any], base: Path) -> Settings:  # Any: JSON values
    """Settings from JSON values that another program may have altered; unknown names are left out.

    Relative paths are relative to ``base``. Raises SettingsError.
    """
    given = {name: content[name] for name in _names() if content.get(name) not in ("", None)}
    values: dict[str, Any] = {"home": base}  # Any: what _checked returns
    return Settings(**values | {name: _checked(name, value, base, name) for name, value in given.items()})


def inherited(*, without: Collection[str] = ()) -> dict[str, str]:
    """This process's environment, for a child process."""
    return {name: text for name, text in os.environ.items() if name not in without}


def shows_windows(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a browser that this process starts is seen by its user: not from SSH, nor where there is no display."""
    variables = os.environ if environ is None else environ
    if variables.get("BROWSER"):  # the user's own choice; read by Python's module webbrowser
        return True
    if sys.platform == "darwin":
        return not variables.get("SSH_CONNECTION")
    return bool(variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY"))


def put_environment(variables: Mapping[str, str], *, without: Collection[str] = ()) -> None:
    """Set variables for libraries that read them at import, in this process and its children."""
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(variables)


def asks_for_completion() -> bool:
    """Whether a shell started this program to complete a command line (argcomplete's protocol)."""
    return "_ARGCOMPLETE" in os.environ


def prepare_environment() -> None:
    """Keep requests to this machine, which carry the owner's token, from a proxy that the environment names.

    And make PYTHONPATH absolute, as services and workers run in another folder. Call it before pyarrow is imported:
    that reads once which allocator it uses. Processes started from here inherit it.
    """
    # Arrow's own choice, mimalloc, gives tables huge pages, and the kernel clears each anew: a quarter of the processor
    # time of a curation. By malloc it also takes less memory. (MIMALLOC_ALLOW_THP=0 would deny huge pages to all
    # that the process and its children do, training too.)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    text = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    names = ",".join([*hosts, *(host for host in ("127.0.0.1", "localhost", "::1") if host not in hosts)])
    os.environ.update(no_proxy=names, NO_PROXY=names)
    if folders := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, folders.split(os.pathsep)))


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(Settings)]


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    known = {PREFIX + name.upper(): name for name in _names()}
    values = {}
    for variable, text in environ.items():
        if variable in known:
            if text != "":  # `STOKER_X= stoker ...` is the shell's way to unset a variable for one call
                values[known[variable]] = text
        elif variable == settings_files.VARIABLE:
            continue
        elif variable.startswith(PREFIX) and not _SERVICE_VARIABLES.fullmatch(variable):
            raise SettingsError(
                f"environment: no setting is called {variable}; {_nearest(variable, [*known, settings_files.VARIABLE])}"
            )
    return values


def _nearest(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def _checked(name: str, value: object, base: Path, where: str) -> object:
    """A setting's value in its type. Text is converted: variables of the environment and flags are text."""
    default = getattr(Settings, name)
    if name == "allow_private":
        from stoker.pipelines.web.http.allowed import normalise

        try:
            return normalise(value)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    if isinstance(default, int | float):
        return _number(name, value, type(default), where)
    if name == "store" and isinstance(value, str):
        return _store(value, base, where)
    if not isinstance(value, str | Path) or not str(value):
        raise SettingsError(f"{where}: found {value!r}, expected text")
    if isinstance(default, Path):
        return (base / Path(value).expanduser()).resolve()
    text = str(value)
    if name in _CHOICES and text not in _CHOICES[name]:
        raise SettingsError(f"{where}: found {text!r}; {_nearest(text, list(_CHOICES[name]))}")
    if name == "web_host":
        return _bound_address(text, where)
    if name == "web_names":
        return ",".join(_host_name(part.strip(), where) for part in text.split(","))
    if name in ("s3_endpoint", "prefect_url") and not text.startswith(("http://", "https://")):
        raise SettingsError(f"{where}: found {text!r}, expected an address that begins with http:// or https://")
    _check_secrets(text, where)
    return text


def _check_secrets(text: str, where: str) -> None:
    if _USER_INFO.search(text):  # settings are shown in Prefect's UI
        raise SettingsError(f"{where}: an address with a password; secrets go into variables of their own libraries")


def _store(text: str, base: Path, where: str) -> str:
    from stoker.storage.errors import StorageRefused
    from stoker.storage.stores.urls import check_url

    _check_secrets(text, where)
    try:
        url = check_url(text)
    except StorageRefused as error:
        raise SettingsError(f"{where}: {str(error).removeprefix('store ')}") from None
    return url if "://" in url or url == "memory:" else str((base / Path(url).expanduser()).resolve())


def _bound_address(text: str, where: str) -> str:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or "%" in text or address.is_multicast:
        raise SettingsError(f"{where}: found {text!r}, expected an IP address, such as 127.0.0.1, 0.0.0.0 or ::1")
    return str(address)


def _host_name(text: str, where: str) -> str:
    """A host name as browsers send it, IPv6 addresses in brackets."""
    name = text.lower()
    if _HOST_NAME.fullmatch(name) and len(name) <= 253:
        return name
    try:
        return f"[{ipaddress.IPv6Address(name.removeprefix('[').removesuffix(']'))}]"
    except ValueError:
        raise SettingsError(
            f"{where}: found {text!r}, expected names without scheme, port or path, such as data.example.org, "
            "separated by commas"
        ) from None


_LEAST = {"attempts": 1, "workers": 0, "retry_s": 0.0, "patience_s": 0.0, "requests_per_second": 0.0}


def _number(name: str, value: object, kind: type[int | float], where: str) -> int | float:
    least = _LEAST.get(name, 1)
    most = 65535 if name.endswith("_port") else 10**6
    expected = f"expected {'a whole number' if kind is int else 'a number'} from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingsError(f"{where}: found {value!r}, {expected}")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise SettingsError(f"{where}: found {value!r}, {expected}") from None
    if not least <= number <= most or (isinstance(value, float) and number != value):
        raise SettingsError(f"{where}: found {value!r}, {expected}")
    return number
