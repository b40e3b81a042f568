"""`stoker open`: a page of `stoker up` in the user's browser, signed in.

The owner's token goes to the browser in a private file, which leads to the page's address: a command line, such as a
browser's own, is seen by every user of the machine.
"""

import webbrowser
from argparse import Namespace
from html import escape
from urllib.parse import urlsplit

from stoker.flows import private, running
from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.settings import Settings, shows_windows
from stoker.flows.start import load_settings
from stoker.storage.errors import StokerError

PREFECT = "prefect"
_FILE = "open.html"


def open_page(arguments: Namespace) -> int:
    """Open a page, or print the link to it. Raises StokerError."""
    settings = load_settings(arguments)
    if arguments.target == PREFECT and settings.prefect_url:  # the user's own server, which knows its own users
        return _show(settings.prefect_url.removesuffix("/api"), arguments)
    login, path = ("/door/login", "/") if arguments.target == PREFECT else ("/login", _path(settings, arguments.target))
    server = _find(settings, PREFECT if arguments.target == PREFECT else "web")
    link = f"{server}{login}#{private.owner_token(settings.home)}&to={path}"
    if arguments.print:
        if arguments.json:
            print_json({"url": link, "tunnel": _tunnel(server)})
        else:
            print(link)
        note("whoever has this link is taken for you, until `stoker up` starts again")
        note(f"from another machine, first: {_tunnel(server)}")
        return 0
    file = settings.home / _FILE
    private.write_private(file, _redirect(link))
    return _show(file.as_uri(), arguments, address=f"{server}{path}")


def _find(settings: Settings, name: str) -> str:
    """The address of a service that runs."""
    services = running.load(settings.home)
    process = services.find_alive(name)
    if services.supervisor is None or not services.supervisor.alive:
        raise StokerError(f"nothing runs for {settings.home}; run `stoker up --detach` first")
    if process is None or not services.ready:
        raise StokerError(f"`stoker up` is not ready yet; try again in some seconds, or see {settings.home / 'logs'}")
    return process.url


def _path(settings: Settings, corpus: str) -> str:
    """The path of a corpus on the page, or of all corpora. Raises NotFound, which names the nearest corpus."""
    if not corpus:
        return "/"
    from stoker.storage.versions.manifest import load_manifest

    _find(settings, "web")
    load_manifest(settings.open_store(), corpus)  # and so it is a name: nothing in it needs to be quoted
    return f"/c/{corpus}"


def _show(url: str, arguments: Namespace, *, address: str = "") -> int:
    """Show an address in the browser, and print it as ``address``, which holds no token."""
    if arguments.json:
        print_json({"url": address or url})
    else:
        print(address or url, flush=True)
    words = f"stoker open {arguments.target}".strip()
    if not shows_windows() or not _opens(url):
        raise StokerError(f"no browser can be opened here; `{words} --print` prints a link for one elsewhere")
    if address:  # a browser in a sandbox, such as a snap, reads no hidden folders, and does not tell us
        note(f"if the browser may not read the file: {words} --print")
    return 0


def _opens(url: str) -> bool:
    try:
        return webbrowser.open(url)
    except (OSError, webbrowser.Error):
        return False


def _tunnel(server: str) -> str:
    parts = urlsplit(server)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"ssh -L {parts.port}:{host}:{parts.port} USER@THIS-MACHINE"


def _redirect(link: str) -> str:
    """A page that leads to a link at once."""
    target = escape(link, quote=True)
    return (
        '<!doctype html>\n<meta charset="utf-8">\n<meta name="referrer" content="no-referrer">\n'
        f'<title>Stoker</title>\n<meta http-equiv="refresh" content="0; url={target}">\n'
        f'<p><a href="{target}">To the page</a></p>\n'
    )
