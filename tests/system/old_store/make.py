"""Makes ``store.tar.xz``: a store that the release of commit 01b1951 wrote, with all that it was made of.

Run by hand, in this repository, with a checkout of that commit::

    git worktree add --detach ../old 01b1951
    python -m tests.system.old_store.make ../old

The archive has the folders ``store`` (the corpora), ``inputs`` (recipes, lists, files), ``site`` (what the web site at
``inputs.SITE`` answers) and ``others`` (tars outside of the store). It is made once: tests compare with what is in it,
and never with what this script makes now.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.site import Reply, Site
from tests.system.old_store.inputs import GROWN, PORT, RECIPES, make, put, tars

FOLDERS = ("store", "inputs", "site", "others")
ARCHIVE = Path(__file__).with_name("store.tar.xz")
TARS = "others"  # folder of tars, in the store and beside it: not a corpus
INDEXED = {"indexed": f"store/{TARS}", "elsewhere": TARS}  # corpora of tars that lie in the store, and outside of it
TRAINING = ("lstm", "texts", "--set", "hidden=8", "--set", "embedding=4", "--set", "window=16")
OPTIONS = ("--max-steps", "6", "--batch-size", "4", "--threads", "1", "--device", "cpu")


def main(checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = make(folder / "inputs")
        for path, payload in pages.items():
            put(folder / "site" / path[1:], payload)
        for tar, payload in tars():
            for place in INDEXED.values():
                put(folder / place / tar, payload)
        with Site(port=PORT) as site:
            site.pages |= {path: reply(path, payload) for path, payload in pages.items()}
            grown = folder / "inputs" / f"{GROWN}-2.csv"
            held_back = grown.rename(folder / grown.name)
            for corpus in RECIPES:
                stoker(checkout, folder, "ingest", f"inputs/{corpus}.toml")
            held_back.rename(grown)
            stoker(checkout, folder, "ingest", f"inputs/{GROWN}.toml")
        for corpus, place in INDEXED.items():
            stoker(checkout, folder, "index", str(folder / place), "--as", corpus)
        stoker(checkout, folder, "train", *TRAINING, *OPTIONS)
        ARCHIVE.write_bytes(packed(folder))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes", file=sys.stderr)


def reply(path: str, payload: bytes) -> Reply:
    """A page of the site, with its type."""
    kinds = {".html": "text/html", ".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4", ".txt": "text/plain"}
    return Reply(payload, headers={"Content-Type": kinds[Path(path).suffix]})


def stoker(checkout: Path, folder: Path, *arguments: str) -> None:
    """Run a command of the old release; its settings come from here alone."""
    settings = {"PYTHONPATH": str(checkout.resolve()), "STOKER_HOME": str(folder / "home")}
    settings |= {"STOKER_STORE": str(folder / "store"), "STOKER_ALLOW_PRIVATE": "true"}
    settings |= {"STOKER_REQUESTS_PER_SECOND": "0", "TZ": "UTC"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    command = [sys.executable, "-m", "stoker", *arguments]
    subprocess.run(command, cwd=folder, env=others | settings, check=True)


def packed(folder: Path) -> bytes:
    """The folders as a tar, without owners and with the times of the files."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:xz", preset=9) as writer:
        for path in sorted(folder.glob("*/**/*")):
            if path.is_file() and path.relative_to(folder).parts[0] in FOLDERS:
                info = writer.gettarinfo(path, str(path.relative_to(folder)))
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                with path.open("rb") as file:
                    writer.addfile(info, file)
    return sink.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
