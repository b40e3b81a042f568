"""Every option of every part is explained from its class, models without importing torch."""

import subprocess
import sys

import pytest

from stoker.flows.cli.usage import parts

ALL = [(kind, name) for kind in parts.KINDS for name in parts.names(kind)]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_option_has_a_type_and_a_meaning_and_there_is_an_example(kind: str, name: str) -> None:
    part = parts.describe(kind, name)
    assert [option.name for option in part.options if not option.meaning or not option.type] == []
    assert part.text
    assert part.example
    assert parts.summary(kind, name)


def test_defaults_choices_and_limits_are_those_of_the_class() -> None:
    options = {option.name: option for option in parts.describe("source", "local_files").options}
    assert (options["files"].default, options["sidecars"].default) == (None, "true")
    assert options["label"].choices == ("", "folder")
    assert options["files_per_partition"].type == "whole number, at least 1 and at most 1,000,000,000"
    assert parts.describe("model", "cnn").defaults["epochs"] == 12


def test_training_options_are_those_of_the_class() -> None:
    from stoker.training.run.options import TrainOptions

    default = TrainOptions()
    found = parts.training_options()
    assert {option.name for option in found} == set(vars(default))
    assert all(option.meaning for option in found)
    for option in found:
        value = getattr(default, option.name)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert option.default == (f'"{value}"' if isinstance(value, str) else text)


def test_neither_torch_nor_a_source_is_imported_for_the_help_of_a_training() -> None:
    code = (
        "import sys\nfrom stoker.flows.cli.cli import main\n"
        "try: main(['train', 'cnn', '--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'pydantic', 'prefect'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    assert "options of cnn, by --set NAME=VALUE:" in done.stdout
    assert '"mobilenet_dense" or "mlp"' in done.stdout
    assert "highest; the schedule begins and ends below it (0.003)" in " ".join(done.stdout.split())
