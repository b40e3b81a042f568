"""All schedules and the last failed runs, read from Prefect's API: what `stoker schedule --list` and the page show."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from stoker.flows.report.format import visible
from stoker.flows.runs import INCOMPLETE, INTERRUPTED, RETRYING
from stoker.flows.schedules import problems, record
from stoker.flows.schedules.api import Reader
from stoker.flows.schedules.problems import MAX_REASON
from stoker.flows.schedules.timetable import Timetable
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

_log = logging.getLogger(__name__)

TAG = "stoker"
FLOWS = ("ingest", "train", "verify")
_REAL = ("COMPLETED", "FAILED", "CRASHED")
_TERMINAL = [*_REAL, "CANCELLED"]
_PENDING = ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]
_MOST_SCHEDULES, _MOST_FAILED, _LOOKED_AT = 200, 10, 20
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


def read(settings: Settings, ask: Reader) -> Overview:
    """All schedules and the last failed runs. Raises StokerError."""
    flows = {flow["id"]: str(flow["name"]) for flow in ask("/flows/filter", flows={"name": {"any_": list(FLOWS)}})}
    tagged = {"tags": {"all_": [TAG]}}
    deployments = ask("/deployments/filter", deployments=tagged, limit=_MOST_SCHEDULES, sort="NAME_ASC")
    own = problems.as_scheduler(settings)
    rows = [_row(ask, deployment, flows.get(deployment["flow_id"], "?"), own) for deployment in deployments]
    if len(deployments) < _MOST_SCHEDULES:
        known = {deployment["name"] for deployment in deployments}
        rows += [ScheduleRow(name, problem=_LOST) for name in record.names(settings.home) if name not in known]
    return Overview(tuple(sorted(rows, key=lambda row: row.name)), _failed(ask, flows))


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
    recipe = visible(given["recipe"], most=500) if isinstance(given.get("recipe"), str) else ""
    problem, warning = problems.find(flow, recipe, deployment, own)
    return ScheduleRow(
        name=visible(deployment["name"], most=120),
        flow=flow,
        when=str(timetable) if timetable else "on every new version",
        timezone=timetable.timezone if timetable else "UTC",
        recipe=recipe,
        paused=bool(deployment.get("paused")),
        next_run=_in_zone(min(planned), zone) if planned and not deployment.get("paused") else "",
        running=any(run["state_type"] == "RUNNING" for run in pending),
        last=_outcome(last, zone) if last else None,
        then=_outcome(then, zone) if then else None,
        problem=problem,
        warning=warning,
    )


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
    whole = run.get("state_type") == "COMPLETED" and name != INCOMPLETE
    reason = "" if whole else visible(_one_line(text), most=MAX_REASON)
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
