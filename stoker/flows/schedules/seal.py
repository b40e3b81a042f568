"""The seal of a schedule: proof that its parameters are those that `stoker schedule` wrote in this home.

Whoever can write to the Prefect server can give a run other parameters, so they carry an HMAC-SHA256 by a key that lies
in the home and that Prefect never sees. A seal is good for one deployment, by its name, and for one flow.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from stoker.storage.versions.layout import is_corpus

SEAL = "seal"  # the parameter that holds it
_OF_RUN = ("token", "resume", SEAL)  # a run may choose these; of a corpus, which version
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def make(key: str, flow: str, deployment: str, parameters: Mapping[str, Any]) -> str:  # Any: JSON values
    """The seal of the parameters of a deployment: 64 hexadecimal digits."""
    sealed = {name: value for name, value in parameters.items() if name not in _OF_RUN}
    if "corpus" in sealed:  # an event names the version that was published: the seal is for all of this corpus
        sealed["corpus"] = _corpus(str(sealed["corpus"]))
    content = {"flow": flow, "deployment": deployment, "parameters": sealed}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def is_valid(key: str, flow: str, deployment: str, parameters: Mapping[str, Any]) -> bool:  # Any: JSON values
    """Whether the parameters carry the seal that they and the deployment had when they were scheduled."""
    given = str(parameters.get(SEAL, ""))
    return hmac.compare_digest(given.encode(errors="replace"), make(key, flow, deployment, parameters).encode())


def _corpus(reference: str) -> str:
    """The corpus of ``name`` or ``name@number``; any other text is left whole, so that it is no sealed corpus."""
    name, at, number = reference.partition("@")
    plain = is_corpus(name) and (not at or _NUMBER.fullmatch(number))
    return name if plain else reference
