"""All schedules and the last failed runs, read from Prefect's API: what `stoker schedule --list` and the page show.

By plain HTTP and without Prefect's client, whose import takes seconds.
"""

import base64
import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from stoker.flows import running
from stoker.flows.report.format import visible
from stoker.flows.runs import INTERRUPTED, RETRYING
from stoker.flows.schedules import environment, parameters, record
from stoker.flows.schedules.timetable import Timetable
from stoker.flows.settings import Settings, inherited
from stoker.storage.errors import NotFound, StokerError

_log = logging.getLogger(__name__)

POOL = "stoker"
TAG = "stoker"
FLOWS = ("ingest", "train", "verify")
_REAL = ("COMPLETED", "FAILED", "CRASHED")
_TERMINAL = [*_REAL, "CANCELLED"]
_PENDING = ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]
_MOST_SCHEDULES, _MOST_FAILED, _LOOKED_AT = 200, 10, 20
_MAX_ANSWER = 32 * 2**20  # bytes
_MAX_REASON = 400  # characters
_PREFIX = re.compile(r"(?:Flow run encountered an exception: )(?:[A-Za-z_][\w.]*: )?")
_REFRESH_S, _FIRST_WAIT_S = 10.0, 1.0
# Of a schedule that this home has: Prefect's database was lost, or never heard of it.
_LOST = "the Prefect server does not know it; schedule it again, or remove it (stoker schedule --remove NAME)"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of a run: its name in Prefect, when it was entered (ISO 8601), and why, in one line."""

    state: str
    at: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule as it is now; times are ISO 8601 in its own time zone, "" for none."""

    name: str
    flow: str = "?"  # "ingest" or "train"; "?" if Prefect does not know it
    when: str = ""
    timezone: str = "UTC"
    recipe: str = ""  # the file; "" for a training
    paused: bool = False
    next_run: str = ""
    running: bool = False
    last: Outcome | None = None  # of the last run that did or tried its work
    then: Outcome | None = None  # of a newer one that did not: cancelled, or it waits to be tried again
    problem: str = ""  # why its next run cannot do its work, and what to do; "" if nothing is known
    warning: str = ""  # what its next run will change


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed or whose process was lost."""

    name: str
    flow: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Overview:
    """Schedules in the order of their names, and the last failed runs, newest first."""

    schedules: tuple[ScheduleRow, ...] = ()
    failed: tuple[FailedRun, ...] = ()
    error: str = ""  # why it is not known (any more)

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values."""
        return {
            "schedules": [asdict(row) for row in self.schedules],
            "failed": [asdict(run) for run in self.failed],
            "error": self.error or None,
        }


@dataclass
class Reader:
    """Reads a Prefect server's API.

    Args:
        api: its address, ``http://host:4200/api``.
        auth: "owner:TOKEN" for a server of `stoker up`; "": what the user's own variables say.
        timeout_s: of each request.
    """

    api: str
    auth: str = field(default="", repr=False)
    timeout_s: float = 5.0

    def __call__(self, path: str, **body: Any) -> Any:  # Any: JSON values
        """The answer to a filter. Raises StokerError."""
        headers = {"Content-Type": "application/json"} | self._authorization()
        request = urllib.request.Request(self.api + path, json.dumps(body).encode(), headers)  # noqa: S310  # http(s): checked
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:  # noqa: S310  # as above
                return json.loads(response.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise StokerError(
                    f"{self.api}: the Prefect server refuses this user (HTTP {error.code}); "
                    "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to what that server expects"
                ) from None
            hint = "it is busy; try again" if error.code in (429, 503) else "see `stoker up`"
            raise StokerError(f"{self.api}: the Prefect server answered HTTP {error.code}; {hint}") from None
        except (OSError, ValueError) as error:
            text = visible(str(getattr(error, "reason", error)), most=200)
            raise StokerError(f"{self.api}: the Prefect server does not answer ({text}); see `stoker up`") from None

    def _authorization(self) -> dict[str, str]:
        variables = inherited()
        if auth := self.auth or variables.get("PREFECT_API_AUTH_STRING", ""):
            return {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode("ascii")}
        key = variables.get("PREFECT_API_KEY", "")
        return {"Authorization": f"Bearer {key}"} if key else {}


def read(settings: Settings, ask: Reader) -> Overview:
    """All schedules and the last failed runs. Raises StokerError."""
    flows = {flow["id"]: str(flow["name"]) for flow in ask("/flows/filter", flows={"name": {"any_": list(FLOWS)}})}
    tagged = {"tags": {"all_": [TAG]}}
    deployments = ask("/deployments/filter", deployments=tagged, limit=_MOST_SCHEDULES, sort="NAME_ASC")
    own = _as_scheduler(settings)
    rows = [_row(ask, deployment, flows.get(deployment["flow_id"], "?"), own) for deployment in deployments]
    if len(deployments) < _MOST_SCHEDULES:
        known = {deployment["name"] for deployment in deployments}
        rows += [ScheduleRow(name, problem=_LOST) for name in record.names(settings.home) if name not in known]
    return Overview(tuple(sorted(rows, key=lambda row: row.name)), _failed(ask, flows))


def _as_scheduler(settings: Settings) -> Settings:
    """The settings with the clusters that the scheduler has: it runs the schedules."""
    ray = environment.recorded_address(settings, "ray_address")
    dask = environment.recorded_address(settings, "dask_address")
    return replace(
        settings,
        ray_address=settings.ray_address if ray is None else ray,
        dask_address=settings.dask_address if dask is None else dask,
    )


def _failed(ask: Reader, flows: Mapping[str, str]) -> tuple[FailedRun, ...]:
    runs = ask(
        "/flow_runs/filter",
        flows={"name": {"any_": list(FLOWS)}},
        flow_runs={"state": {"type": {"any_": ["FAILED", "CRASHED"]}}},
        sort="END_TIME_DESC",
        limit=_MOST_FAILED,
    )
    return tuple(
        FailedRun(visible(run["name"], most=120), flows.get(run["flow_id"], "?"), _outcome(run, UTC)) for run in runs
    )


def _row(ask: Reader, deployment: Mapping[str, Any], flow: str, own: Settings) -> ScheduleRow:  # Any: JSON values
    timetable = _timetable(deployment)
    zone = ZoneInfo(timetable.timezone) if timetable else UTC
    this = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    pending = _runs(ask, this, _PENDING, sort="EXPECTED_START_TIME_ASC", limit=_LOOKED_AT)
    ended = _runs(ask, this, _TERMINAL, sort="END_TIME_DESC", limit=_LOOKED_AT)
    last = next((run for run in ended if _is_real(run)), None)
    if last is None and len(ended) == _LOOKED_AT:
        last = next(iter(_runs(ask, this, list(_REAL), sort="END_TIME_DESC", limit=1)), None)
    waiting = next((run for run in pending if run["state_name"] == RETRYING), None)
    then = waiting or (ended[0] if ended and ended[0] is not last else None)
    planned = [run["expected_start_time"] for run in pending if run["state_name"] in ("Scheduled", "Late")]
    given = deployment.get("parameters") or {}
    row = ScheduleRow(
        name=visible(deployment["name"], most=120),
        flow=flow,
        when=str(timetable) if timetable else "on every new version",
        timezone=timetable.timezone if timetable else "UTC",
        recipe=visible(given["recipe"], most=500) if isinstance(given.get("recipe"), str) else "",
        paused=bool(deployment.get("paused")),
        next_run=_in_zone(min(planned), zone) if planned and not deployment.get("paused") else "",
        running=any(run["state_type"] == "RUNNING" for run in pending),
        last=_outcome(last, zone) if last else None,
        then=_outcome(then, zone) if then else None,
    )
    return _judged(row, deployment, own)


def _runs(ask: Reader, this: Mapping[str, Any], types: list[str], *, sort: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(  # Any: JSON values
        "/flow_runs/filter", **this, flow_runs={"state": {"type": {"any_": types}}}, sort=sort, limit=limit
    )
    return found


def _is_real(run: Mapping[str, Any]) -> bool:  # Any: JSON values
    """Whether a run did its work or tried to; one that was cancelled did not."""
    return run["state_type"] in _REAL or run["state_name"] == INTERRUPTED


def _timetable(deployment: Mapping[str, Any]) -> Timetable | None:  # Any: JSON values
    for entry in deployment.get("schedules") or ():
        schedule = entry["schedule"]
        if "cron" in schedule:
            return Timetable(cron=schedule["cron"], timezone=schedule.get("timezone") or "UTC")
        if "interval" in schedule:
            return Timetable(interval_s=float(schedule["interval"]), timezone=schedule.get("timezone") or "UTC")
    return None


def _outcome(run: Mapping[str, Any], zone: tzinfo) -> Outcome:  # Any: JSON values
    state = run.get("state") or {}
    text = str(state.get("message") or "").strip()
    name = visible(run.get("state_name") or "?", most=60)
    reason = "" if run.get("state_type") == "COMPLETED" else visible(_one_line(text), most=_MAX_REASON)
    at = run.get("next_scheduled_start_time") if run.get("state_type") == "SCHEDULED" else state.get("timestamp")
    return Outcome(name, _in_zone(at, zone), reason)


_AS_WE_SAY = {"Deployment concurrency limit reached.": "the run before it was still going on"}


def _one_line(text: str) -> str:
    match = _PREFIX.match(text)
    line = (text[match.end() :] if match else text).partition("\n")[0]
    return _AS_WE_SAY.get(line, line)


def _in_zone(moment: str | None, zone: tzinfo) -> str:
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone(zone).isoformat(timespec="seconds")


def _judged(row: ScheduleRow, deployment: Mapping[str, Any], own: Settings) -> ScheduleRow:  # Any: JSON values
    """The row with what keeps its next run from its work, and with what that run will change."""
    if deployment.get("work_pool_name") != POOL:
        return replace(row, problem="its work pool is gone; run `stoker down` and `stoker up`, or schedule it again")
    if not own.prefect_url and running.load(own.home).find_alive("schedule") is None:
        log = own.home / "logs" / "schedule.log"
        return replace(row, problem=f"the scheduler does not run; see {log}, run `stoker down` and `stoker up`")
    given = deployment.get("parameters") or {}
    try:
        parameters.verify(row.flow, str(deployment["name"]), given, own)
        resolved = parameters.resolve(row.flow, str(deployment["name"]), given, own)
    except StokerError as error:
        return replace(row, problem=visible(str(error), most=_MAX_REASON))
    return replace(row, warning=_recipe_warning(row, resolved) if row.flow == "ingest" else "")


_digests: dict[tuple[str, str, int], str] = {}  # of versions, which never change


def _recipe_warning(row: ScheduleRow, resolved: Mapping[str, Any]) -> str:  # Any: what a flow takes
    """Whether the newest version was made by another recipe than the file now says."""
    from pathlib import Path

    from stoker.pipelines.recipe import parse
    from stoker.storage.versions import catalog
    from stoker.storage.versions.manifest import load_manifest

    recipe = parse(resolved["recipe"], root=Path(resolved["root"]))
    try:
        store = Settings.from_json(resolved["settings"]).open_store()
        newest = max(catalog.versions(store, recipe.corpus), default=None)
        if newest is None:
            return ""
        key = (store.url, recipe.corpus, newest)
        if key not in _digests:
            _digests[key] = load_manifest(store, f"{recipe.corpus}@{newest}").recipe_digest
    except NotFound:
        return ""
    except StokerError as error:
        return visible(str(error), most=_MAX_REASON)
    if _digests[key] == recipe.digest:
        return ""
    reference = f"{recipe.corpus}@{newest}"
    return f"{reference} was made by another recipe than {row.recipe} is now, which the next run will use"


class Watch:
    """The overview for a page: never older than it must be, and never waited for when Prefect is silent.

    Args:
        load: reads it; may raise StokerError.
        refresh_s: an older one is read again, in the background.
    """

    def __init__(self, load: Callable[[], Overview], *, refresh_s: float = _REFRESH_S) -> None:
        self._load, self._refresh_s = load, refresh_s
        self._lock = threading.Lock()
        self._known: Overview | None = None
        self._read_at = 0.0
        self._thread: threading.Thread | None = None

    def __call__(self) -> Overview:
        """What is known. The first call waits a moment for it, the others do not wait."""
        with self._lock:
            if self._thread is None and (self._known is None or time.monotonic() - self._read_at > self._refresh_s):
                self._thread = threading.Thread(target=self._refresh, name="schedules", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(_FIRST_WAIT_S if self._known is None else _FIRST_WAIT_S / 4)
        return self._known or Overview(error="Prefect has not answered yet")

    def _refresh(self) -> None:
        try:
            result = self._load()
        except StokerError as error:
            result = replace(self._known or Overview(), error=str(error))
        except Exception as error:  # a page without schedules is better than none
            _log.exception("the schedules for the page could not be read")
            result = replace(self._known or Overview(), error=f"an error inside Stoker: {error!r:.200}")
        with self._lock:
            self._known, self._read_at, self._thread = result, time.monotonic(), None
