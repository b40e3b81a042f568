"""A real Chromium, driven through a pipe by the Chrome DevTools Protocol: tabs, scripts, and what the network said."""

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.conftest import PATIENCE

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
COMMON_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FLAGS = ("--headless=new", *COMMON_FLAGS, "--disable-popup-blocking")
_REPLY_S = 60


class Chromium:
    """One browser process; ``requests`` holds what its tabs asked for: [address, method, status or 0] by number."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self._process, self._read, self._write = process, read, write
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.requests: dict[str, tuple[str, str, int]] = {}
        self.console: list[str] = []

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The reply to a command of the protocol."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _REPLY_S
        while True:
            reply = self._next(deadline)
            if reply.get("id") == number:
                assert "error" not in reply, f"{method}: {reply['error']}"
                result: dict[str, Any] = reply["result"]
                return result
            self._note(reply)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not reply"
            received = os.read(self._read, 1 << 16)
            assert received, "Chromium ended"
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        number = values.get("requestId", "")
        if event["method"] == "Network.requestWillBeSent":
            self.requests[number] = (values["request"]["url"], values["request"]["method"], 0)
        elif event["method"] == "Network.responseReceivedExtraInfo" and number in self.requests:
            self.requests[number] = (*self.requests[number][:2], values["statusCode"])
        elif event["method"] == "Network.responseReceived" and number in self.requests:
            self.requests[number] = (*self.requests[number][:2], values["response"]["status"])
        elif event["method"] == "Log.entryAdded":
            self.console.append(values["entry"]["text"])

    def tab(self, url: str) -> "Tab":
        """A new tab that shows an address."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Log"):
            self.send(f"{domain}.enable", session)
        tab = Tab(self, session)
        self.send("Page.navigate", session, url=url)
        return tab

    def cookies(self) -> list[dict[str, Any]]:
        """Every cookie of the profile."""
        found: list[dict[str, Any]] = self.send("Storage.getCookies")["cookies"]
        return found


class Tab:
    """A tab of the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def run(self, script: str) -> Any:  # Any: a JSON value
        """The value of an expression in the page; of what a promise gives, if it is one."""
        reply = self._browser.send(
            "Runtime.evaluate",
            self._session,
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> Any:  # Any: a JSON value
        """The value of an expression, as soon as it is true; asked again while the tab goes to another page."""
        deadline = time.monotonic() + PATIENCE * seconds
        value = None
        while not value and time.monotonic() < deadline:
            with suppress(AssertionError):
                value = self.run(script)
            if not value:
                time.sleep(0.05)
        assert value, f"{script}: {self.run('[location.href, document.title, document.body.innerText]')}"
        return value


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Chromium]:
    """A browser with a new profile in this folder, without a window. It listens at no port."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # Chromium reads commands from file descriptor 3 and writes replies to 4.
    redirect = f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}'
    command = ["bash", "-c", redirect, PROGRAM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [*command, *flags, "about:blank"],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        browser = Chromium(process, from_read, to_write)
        yield browser
        with suppress(AssertionError, OSError):
            browser.send("Browser.close")
    finally:
        os.close(to_write)
        os.close(from_read)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
