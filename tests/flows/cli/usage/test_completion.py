"""Completion as a shell asks for it: by environment variables, answered on descriptor 8."""

import subprocess
import sys
from pathlib import Path

import pytest

from stoker.testing import sample_corpus
from tests.flows.conftest import Cli


def completed(cli: Cli, line: str) -> list[str]:
    """What a shell would offer behind this line."""
    answer = cli.folder / "answer"
    variables = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    script = f'exec "{sys.executable}" -m stoker 8>"{answer}" 9>/dev/null'
    # The shell's function gives one word, the program's name; _ARGCOMPLETE says how many words of the line it takes.
    subprocess.run(
        ["/bin/bash", "-c", script], cwd=cli.folder, env=cli.environment() | variables, check=True, capture_output=True
    )
    return [word.rstrip() for word in answer.read_text().split("\n") if word]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stoker ing", {"ingest"}),
        ("stoker ingest a.toml --run", {"--runner"}),
        ("stoker ingest a.toml --runner pro", {"processes"}),
        ("stoker train ", {"cnn", "lstm"}),
        ("stoker train cnn x --optimiser rms", {"rmsprop"}),
        ("stoker help image_u", {"image_urls"}),
        ("stoker check wor", {"words.toml"}),
        ("stoker --home h li", {"list"}),
    ],
)
def test_a_shell_is_offered(line: str, expected: set[str], cli: Cli) -> None:
    cli.recipe(["one"])
    assert expected <= set(completed(cli, line))


def test_corpora_of_a_store_in_a_folder_are_offered(cli: Cli) -> None:
    memory, manifest = sample_corpus(4)
    for stored in memory.list():
        path = cli.folder / "store" / stored.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memory.read(stored.key))
    assert completed(cli, f"stoker show --store store {manifest.corpus[:2]}") == [manifest.corpus]
    assert completed(cli, "stoker show --store s3://nowhere/x d") == []


def test_the_program_bears_the_mark_that_global_completion_looks_for() -> None:
    import stoker.__main__ as program

    assert b"PYTHON_ARGCOMPLETE_OK" in Path(program.__file__).read_bytes()[:1024]
