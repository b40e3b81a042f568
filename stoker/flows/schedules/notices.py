"""Notices to the owner: a scheduled run failed, works again, or made a new version.

Sent by Apprise, which knows mail, chats and webhooks by their URL, from the process of the run or of the scheduler.
The URLs hold passwords and tokens: they lie in the home alone (see ``record``), and are shown as scheme and host.
Where they lead is the owner's own choice, also on a private network: no recipe can name one.
"""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stoker.flows.report.format import visible
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from apprise.plugins import NotifyBase

_LIMIT_S = 20.0  # for all notices of a run together
_WITH_HOST = frozenset(("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"))  # not a part of a secret
_MOST_MEMORY = 2**30  # bytes of address space, for whatever servers answer
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
    """Send a notice to each URL, at the same time. Returns those that it did not reach in time, as ``shown``.

    By a process of its own, which is killed at the end of the time: a server may never answer, or never end its answer.
    """
    urls = list(urls)
    if not urls:
        return []
    message = {"urls": urls, "title": visible(title, most=200), "body": visible(body, most=_MAX_BODY), "good": good}
    process = subprocess.Popen(  # noqa: S603  # our own module
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,  # others see arguments
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # its libraries' complaints may hold parts of URLs
        cwd="/",
    )
    try:
        output, _ = process.communicate(json.dumps(message).encode(), timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    finally:
        process.kill()  # where a signal came in between
    reached = {int(line) for line in output.split() if line.isdigit()}
    return [shown(url) for number, url in enumerate(urls) if number not in reached]


def _main() -> None:
    """In that process: send what standard input says, and print the number of each URL that is reached."""
    message = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))

    def send_one(number: int, url: str) -> None:
        plugin = _plugin(url)
        if plugin is not None and _notify(plugin, message["title"], message["body"], good=message["good"]):
            os.write(1, f"{number}\n".encode())

    threads = [threading.Thread(target=send_one, args=each) for each in enumerate(message["urls"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
    # A redirected notice arrives without its text (302), which looks like success, or at somebody else's.
    asset.http_redirects = False
    try:
        return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except (TypeError, ValueError):
        return None


if __name__ == "__main__":
    _main()
