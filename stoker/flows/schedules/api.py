"""Prefect's API by plain HTTP, and without Prefect's client, whose import takes seconds."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from stoker.flows.report.format import visible
from stoker.flows.settings import inherited
from stoker.storage.errors import StokerError

REFUSALS = (401, 403)
_MAX_ANSWER = 32 * 2**20  # bytes


def refusal(api: str, status: int, *, known: bool) -> str:
    """What to say of a server that does not take this user's requests.

    ``known``: its token is that of this home, as with the server of `stoker up`.
    """
    remedy = (
        "it was started anew; run the command again"
        if known
        else "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to what that server expects"
    )
    return f"{api}: the Prefect server refuses this user (HTTP {status}); {remedy}"


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
    timeout_s: float = 30.0  # a server that does much else answers late

    def __call__(self, path: str, **body: Any) -> Any:  # Any: JSON values
        """The answer to a filter. Raises StokerError."""
        headers = {"Content-Type": "application/json"} | self._authorization()
        request = urllib.request.Request(self.api + path, json.dumps(body).encode(), headers)  # noqa: S310  # http(s): checked
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:  # noqa: S310  # as above
                return json.loads(response.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code in REFUSALS:
                raise StokerError(refusal(self.api, error.code, known=bool(self.auth))) from None
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
