"""Results as text and as JSON, on standard output, and as HTML files."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows.logs import note
from stoker.flows.report.json_text import json_text
from stoker.flows.settings import UsageError

if TYPE_CHECKING:
    from stoker.storage.versions.manifest import Manifest


def print_json(value: object, *, line: bool = False) -> None:
    """Print a JSON document; ``line``: in one line, as one of several."""
    print(json_text(value, indent=None if line else 1), flush=line)


def print_text(text: str, *, end: str = "\n") -> None:
    """Print lines that hold what others wrote: exact in a file or a pipe, and on a terminal nothing that it obeys."""
    from stoker.flows.report.format import paragraphs

    print(paragraphs(text) if sys.stdout.isatty() else text, end=end)


def published_json(manifest: "Manifest", *, new: bool) -> dict[str, Any]:  # Any: JSON values
    """A version that a command made, or found to be the newest one."""
    return {
        "reference": manifest.reference,
        "corpus": manifest.corpus,
        "version": manifest.version,
        "new": new,
        "samples": manifest.samples,
        "size": manifest.size,
        "splits": {name: split.samples for name, split in manifest.splits.items()},
        "read": manifest.read,
        "rejected": dict(sorted(manifest.rejected.items())),
    }


def check_new_page(command: str, page: Path) -> None:
    """Raise UsageError where a new file cannot be written, before a command begins its work."""
    if page.exists():
        raise UsageError(f"{command}: --page {page}: exists already; name a new file")
    if not page.parent.is_dir():
        raise UsageError(f"{command}: --page {page}: {page.parent} is no folder; make it first")
    if not os.access(page.parent, os.W_OK):
        raise UsageError(f"{command}: --page {page}: {page.parent} cannot be written to")


def write_page(command: str, path: Path, template: str, **values: Any) -> None:  # Any: what the template shows
    """Write an HTML file with everything in it, and tell it. Raises UsageError."""
    from stoker.flows.page.template import PAGES, Templates

    style = (PAGES / "style.css").read_text(encoding="utf-8")
    write_new(command, path, Templates(title="Stoker").render(template, style=style, **values))
    note(f"page: {path}")


def write_new(command: str, path: Path, page: str) -> None:
    """Create a file with this text, whole or not at all. Raises UsageError."""
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(page)
                file.flush()
            except BaseException:  # an interrupt too: half a page would stand in the way of the next one
                path.unlink()
                raise
    except OSError as error:
        raise UsageError(f"{command}: --page {path}: {error.strerror}; name another file") from None
