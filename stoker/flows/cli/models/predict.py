"""`stoker predict`: a trained model's answers for images of the user's own, or for a prompt."""

import base64
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stoker.flows import logs
from stoker.flows.cli.output import check_new_page, print_json, write_page
from stoker.flows.private import make_private
from stoker.flows.progress import terminal_progress
from stoker.flows.report.format import paragraphs, percent_text
from stoker.flows.report.json_text import json_text
from stoker.flows.report.terminal import Sheet
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings, require_torch
from stoker.storage.plural import plural
from stoker.storage.stores.urls import with_patience

if TYPE_CHECKING:
    from stoker.training.trained.load import Trained
    from stoker.training.trained.predict import Prediction

_MAX_PICTURES = 1000  # on a page; of more the answers alone
_PICTURE = 160  # pixels of the longer side, on a page
_OF_TEXTS = ("temperature", "length", "seed")  # flags that go with --prompt


def predict(arguments: Namespace) -> int:
    """Print an answer for each file, or a text. Exit code 1 if a file has none."""
    _check(arguments)
    settings = load_settings(arguments)
    store = with_patience(settings.open_store(reading=True), settings.patience_s)
    make_private(settings.home)
    with require_torch():
        from stoker.training.trained.load import load_trained
        from stoker.training.trained.predict import files_of
        from stoker.training.trained.predict import predict as answers_of
    files = files_of([Path(path) for path in arguments.files]) if arguments.files else []
    with terminal_progress(settings.home) as reporter, reporter.interrupts():
        reporter.start_phase("reading the model")
        trained = load_trained(
            store,
            arguments.run_name,
            checkpoint=arguments.checkpoint,
            device=arguments.device,
            network=arguments.network,
        )
        reporter.start_phase(f"{trained.name}", len(files) or None)
        text = "" if files else _text(trained, arguments)
        found = []
        for answer in answers_of(trained, files, top=arguments.top, progress=reporter.advance_to) if files else ():
            found.append(answer)
            if arguments.json:
                reporter.print(json_text(answer.to_json(), indent=None))
    if not files:
        _write(trained, text, arguments)
        return 0
    if not arguments.json:
        _print(found, Console())
    if arguments.page:
        _write_page(arguments.page, trained, found)
    problems = sum(bool(answer.problem) for answer in found)
    if problems:
        logs.error(f"{plural(problems, 'file')} of {len(found):,} without an answer: see above")
        return 1
    return 0


def _check(arguments: Namespace) -> None:
    given = [f"--{name}" for name in _OF_TEXTS if getattr(arguments, name) is not None]
    if arguments.files and (arguments.prompt is not None or given):
        raise UsageError("predict: files and --prompt: a model tells classes of files, or writes on from a prompt")
    if not arguments.files and arguments.prompt is None:
        raise UsageError("predict: name files or folders, or give a --prompt")
    if arguments.page and not arguments.files:
        raise UsageError("predict: --page shows files; name them")
    if arguments.page:
        check_new_page("predict", arguments.page)


def _text(trained: "Trained", arguments: Namespace) -> str:
    """The text that follows the prompt."""
    from stoker.training.trained.predict import write

    options: dict[str, Any] = {"temperature": arguments.temperature, "sample_length": arguments.length}
    chosen = {name: value for name, value in options.items() if value is not None}
    return write(trained, arguments.prompt, seed=arguments.seed or 0, **chosen)


def _write(trained: "Trained", text: str, arguments: Namespace) -> None:
    if arguments.json:
        about = {"run": trained.info.run, "corpus": trained.corpus, "prompt": arguments.prompt}
        print_json(about | {"text": text}, line=True)
    else:
        print(paragraphs(text))


def _print(found: "Sequence[Prediction]", console: Console) -> None:
    rows = []
    for answer in found:
        if answer.problem:
            rows.append((str(answer.path), "–", "", answer.problem))
            continue
        (name, probability), *others = answer.classes
        beside = ", ".join(f"{other} {percent_text(share)}" for other, share in others if share >= 0.005)
        rows.append((str(answer.path), name, percent_text(probability), beside))
    Sheet(console).table(("file…", "class…", "sure>", "else*"), rows)


def _write_page(path: Path, trained: "Trained", found: "Sequence[Prediction]") -> None:
    """One HTML file with everything in it: it loads nothing, and runs nothing."""
    answered = [answer.path for answer in found if not answer.problem][:_MAX_PICTURES]
    pictures = {path: _picture(path) for path in answered}
    write_page(
        "predict",
        path,
        "predictions.html",
        run=trained.name,
        model=trained.info.identity["model"],
        version=trained.info.version,
        answers=[(answer, pictures.get(answer.path, "")) for answer in found],
        problems=sum(bool(answer.problem) for answer in found),
    )


def _picture(path: Path) -> str:
    """A small picture of an image as a data URL; "" where it cannot be made."""
    from stoker.flows.page.pictures import shrink
    from stoker.storage.errors import StokerError

    try:
        payload = shrink(path.read_bytes(), _PICTURE, str(path))
    except (StokerError, OSError):
        return ""
    kind = "png" if payload.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(payload).decode()}"
