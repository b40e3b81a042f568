"""Notices to the owner: a scheduled run failed, works again, or made a new version.

Sent by Apprise, which knows mail, chats and webhooks by their URL, from the process of the run or of the scheduler.
The URLs hold passwords and tokens: they lie in the home alone (see ``record``), and are shown as scheme and host.
Where they lead is the owner's own choice, also on a private network: no recipe can name one.
"""

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stoker.flows.report.format import visible
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from apprise.plugins import NotifyBase

_LIMIT_S = 20.0  # for all notices of a run together
_WITH_HOST = frozenset(("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"))  # not a part of a secret
_MAX_BODY = 4000  # characters; chats refuse longer messages


class NoticeError(StokerError):
    """A URL to which no notice can be sent."""


def check(url: str) -> None:
    """Raise NoticeError for a URL that Apprise does not know; nothing is sent."""
    if _plugin(url) is None:
        raise NoticeError(
            f"--notify {shown(url)}: no address for notices; expected one of Apprise's, such as "
            "mailto://..., slack://..., or json://host/path"
        )


def shown(url: str) -> str:
    """A URL without what may be secret: its scheme, and its host where that is one.

    >>> shown("mailto://me:secret@example.org?to=you@example.org"), shown("tgram://123:abc/456")
    ('mailto://example.org', 'tgram://…')
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return "…"
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return visible(f"{scheme[:20]}://{host if scheme.lower() in _WITH_HOST and host else '…'}", most=120)


def send(urls: Iterable[str], title: str, body: str, *, good: bool, limit_s: float = _LIMIT_S) -> list[str]:
    """Send a notice to each URL, at the same time. Returns those that it did not reach in time, as ``shown``."""
    urls = list(urls)
    if not urls:
        return []
    reached: set[str] = set()
    text = visible(body, most=_MAX_BODY)

    def send_one(url: str) -> None:
        plugin = _plugin(url)
        if plugin is not None and _notify(plugin, visible(title, most=200), text, good=good):
            reached.add(url)

    # Daemons: a server that never answers must not keep the process of a run alive.
    threads = [threading.Thread(target=send_one, args=(url,), name="notice", daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [shown(url) for url in urls if url not in reached]


def _notify(plugin: "NotifyBase", title: str, body: str, *, good: bool) -> bool:
    from apprise import NotifyFormat, NotifyType

    kind = NotifyType.SUCCESS if good else NotifyType.FAILURE
    try:
        return bool(plugin.notify(title=title, body=body, notify_type=kind, body_format=NotifyFormat.TEXT))
    except Exception:  # whatever a library of a chat raises: the caller says that the notice was not sent
        return False


def _plugin(url: str) -> "NotifyBase | None":
    import logging

    import apprise

    # Its messages hold parts of URLs, and answers of servers.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(app_id="Stoker", app_desc="Stoker", app_url="", async_mode=False)
    try:
        return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except (TypeError, ValueError):
        return None
