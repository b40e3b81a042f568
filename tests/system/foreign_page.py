"""A page of another origin on 127.0.0.1 that tries, in a real browser, to use a server of this machine.

It has no token. It tries everything that a page may do: requests of every kind with the browser's own login, pictures,
scripts, frames, forms, windows, beacons and websockets. Its server records what the browser sends to it.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.system.chromium import Chromium, Tab


class Write(NamedTuple):
    """A request that would change something, if it were obeyed."""

    method: str
    path: str
    body: str = ""


class Finding(NamedTuple):
    """What one attempt got: the text that it read, or "", and whether the browser took the response."""

    kind: str
    path: str
    text: str
    loaded: bool


@dataclass
class ForeignPage:
    """The page's address, and the headers of all requests that its server got."""

    url: str
    received: list[Mapping[str, str]] = field(default_factory=list)

    def attack(
        self, browser: Chromium, target: str, *, reads: Sequence[str], writes: Sequence[Write] = ()
    ) -> list[Finding]:
        """Open the page in a new tab, and try everything against a server. Statuses are in ``browser.requests``."""
        tab = browser.tab(self.url)
        tab.until("typeof attack === 'function'")
        arguments = json.dumps([target, list(reads), [write._asdict() for write in writes]])
        return [Finding(**finding) for finding in tab.run(f"attack(...{arguments})")]


@contextmanager
def foreign_page() -> Iterator[ForeignPage]:
    """The page on a free port, as long as the context lasts."""
    received: list[Mapping[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            received.append({name.lower(): value for name, value in self.headers.items()})
            payload = f"<!doctype html><title>foreign</title><script>{_SCRIPT}</script>".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_POST = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ForeignPage(f"http://127.0.0.1:{server.server_port}/", received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def statuses(browser: Chromium, target: str) -> dict[tuple[str, str, int], int]:
    """How often each (method, path, status) came from a server; status 0: the browser got no response."""
    counts: dict[tuple[str, str, int], int] = {}
    for url, method, status in browser.requests.values():
        if url.startswith(target):
            key = (method, url.removeprefix(target), status)
            counts[key] = counts.get(key, 0) + 1
    return counts


def show(tab: Tab, url: str) -> str:
    """The text of a page that a tab is sent to."""
    tab.run(f"location.href = {json.dumps(url)}; 0")
    tab.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")
    text: str = tab.run("document.body.innerText")
    return text


_SCRIPT = r"""
const WAIT_MS = 4000;
const findings = [];
const note = (kind, path, text, loaded) => findings.push({kind, path, text: String(text || ""), loaded: !!loaded});
const within = (promise) => Promise.race([promise, new Promise((done) => setTimeout(done, WAIT_MS))]);
const settle = (element, loaded = "onload", failed = "onerror") => new Promise((done) => {
  element[loaded] = () => done(true);
  element[failed] = () => done(false);
});

async function viaFetch(kind, url, path, options) {
  try {
    const response = await within(fetch(url, options));
    const readable = response && response.type !== "opaque";
    note(kind, path, readable ? `${response.status} ${await response.text()}` : "", false);
  } catch { note(kind, path, "", false); }
}

async function viaElement(kind, path, tag, properties, text) {
  const element = document.createElement(tag);
  const loaded = settle(element);
  Object.assign(element, properties);
  document.body ? document.body.append(element) : document.documentElement.append(element);
  const ok = await within(loaded);
  let got = "";
  try { got = text ? text(element) : ""; } catch {}
  note(kind, path, got, ok && tag !== "iframe" && tag !== "object");
  element.remove();
}

async function viaXhr(url, path, credentials) {
  const request = new XMLHttpRequest();
  const done = settle(request);
  try {
    if (credentials) request.open("GET", url, true, "owner", "a-guess-of-the-token-0123");
    else request.open("GET", url);
    request.withCredentials = true;
    request.send();
    await within(done);
    note("xhr", path, request.responseText, false);
  } catch { note("xhr", path, "", false); }
}

async function viaWindow(url, path) {
  const opened = window.open(url);
  await new Promise((done) => setTimeout(done, 1500));
  let text = "";
  try { text = opened.document.body.innerText; } catch {}
  try { opened.postMessage("give", "*"); } catch {}
  try { opened.close(); } catch {}
  note("window", path, text, false);
}

async function viaSocket(url, path) {
  try {
    const socket = new WebSocket(url);
    const got = [];
    socket.onmessage = (event) => got.push(event.data);
    const open = await within(settle(socket, "onopen", "onclose"));
    if (open) await new Promise((done) => setTimeout(done, 300));
    note("websocket", path, got.join(), open);
    socket.close();
  } catch { note("websocket", path, "", false); }
}

async function viaEvents(url, path) {
  const source = new EventSource(url, {withCredentials: true});
  const open = await within(settle(source, "onopen"));
  note("events", path, "", open);
  source.close();
}

async function viaForm(url, path, method, enctype, body, into) {
  const frame = document.createElement("iframe");
  frame.name = `frame${Math.random()}`;
  document.documentElement.append(frame);
  const form = document.createElement("form");
  Object.assign(form, {action: url, method, enctype, target: into || frame.name});
  const input = document.createElement("input");
  // With text/plain the name and the value are JSON, around the "=" that a form adds.
  Object.assign(input, body.startsWith("{")
    ? {name: body.slice(0, -1) + ', "x": "', value: '"}'} : {name: "file", value: body});
  const key = document.createElement("input");
  Object.assign(key, {name: "key", value: "planted"});
  form.append(...(enctype === "multipart/form-data" ? [key, input] : [input]));
  document.documentElement.append(form);
  const loaded = within(settle(frame));
  form.submit();
  await (into ? new Promise((done) => setTimeout(done, 500)) : loaded);
  let text = "";
  try { text = frame.contentDocument.body.innerText; } catch {}
  note(`form ${enctype}`, path, text, false);
  frame.remove();
  form.remove();
}

async function read(target, path) {
  const url = target + path, socket = url.replace("http", "ws");
  await Promise.all([
    viaFetch("fetch", url, path, {}),
    viaFetch("fetch with the login", url, path, {credentials: "include"}),
    viaFetch("fetch no-cors", url, path, {mode: "no-cors", credentials: "include"}),
    viaFetch("fetch with a header", url, path, {headers: {Authorization: "Bearer a-guess-of-the-token-0123"}}),
    viaXhr(url, path, false),
    viaXhr(url, path, true),
    viaElement("img", path, "img", {src: url}, (image) => image.naturalWidth ? `${image.naturalWidth} pixels` : ""),
    viaElement("script", path, "script", {src: url}),
    viaElement("style", path, "link", {rel: "stylesheet", href: url}, (link) => link.sheet.cssRules[0].cssText),
    viaElement("video", path, "video", {src: url, onloadeddata: null}),
    viaElement("iframe", path, "iframe", {src: url}, (frame) => frame.contentDocument.body.innerText),
    viaElement("object", path, "object", {data: url}, (object) => object.contentDocument.body.innerText),
    viaEvents(url, path),
    viaSocket(socket, path),
  ]);
  await viaForm(url, path, "get", "application/x-www-form-urlencoded", "x");
}

async function write(target, {method, path, body}) {
  const url = target + path;
  const form = new FormData();
  form.append("key", "planted");  // the form of an upload to S3 by a browser
  form.append("file", new Blob([body]), "file.json");
  const simple = {method: "POST", mode: "no-cors", credentials: "include"};
  await Promise.all([
    viaFetch("json", url, path, {method, body: body || undefined, credentials: "include",
      headers: {"Content-Type": "application/json"}}),
    viaFetch("plain", url, path, {...simple, body}),
    viaFetch("blob", url, path, {...simple, body: new Blob([body])}),
    viaFetch("multipart", url, path, {...simple, body: form}),
    viaFetch("urlencoded", url, path, {...simple, body: new URLSearchParams({file: body})}),
    viaFetch(method, url, path, {method, credentials: "include"}),
  ]);
  navigator.sendBeacon(url, new Blob([body], {type: "text/plain"}));
  for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
    await viaForm(url, path, "post", enctype, body);
  await viaForm(url, path, "post", "text/plain", body, "_blank");
}

async function attack(target, reads, writes) {
  for (const path of reads) await read(target, path);
  for (const one of writes) await write(target, one);
  for (const path of reads.slice(0, 2)) await viaWindow(target + path, path);
  await new Promise((done) => setTimeout(done, 300));
  return findings;
}
"""
