"""Documentation is checked against the code: the README's tables and commands, and every example in a docstring."""

import ast
import doctest
import importlib
import inspect
import io
import re
import shlex
import tokenize
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.flows import settings
from stoker.flows.cli.cli import parser
from stoker.pipelines import recipe as recipes
from stoker.pipelines.registry import find, names
from stoker.pipelines.rejected import REASONS, OutcomeClass
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions.manifest import publish
from stoker.testing.contracts.component import example_of
from stoker.training.run import model as models
from stoker.training.run.options import parse_options
from tests.test_repository import REPO, tracked
from tests.training import corpora

README = (REPO / "README.md").read_text(encoding="utf-8")
KINDS: dict[str, type[Source] | type[Step] | type[Rule]] = {"source": Source, "step": Step, "rule": Rule}
PARTS = [(kind, name) for kind, offered in KINDS.items() for name in names(offered)]  # type: ignore[type-var]  # one of three
QUOTED_FOLDERS = ("stoker", "tests", "recipes", "examples", "flows", "pipelines", "storage", "training")
COMMANDS = sorted(parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr,arg-type]  # argparse's own


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of the README, without its head."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def whole(document: dict[str, Any]) -> dict[str, Any]:
    """A recipe around an example that shows only its part."""
    source = {"name": "local_files", "files": "pictures"}
    return {"corpus": "example", "source": source} | document


@pytest.mark.parametrize("name", models.names())
def test_the_example_of_every_model_is_a_command(name: str) -> None:
    (line,) = example_of(models.find(name).__doc__).splitlines()
    arguments = parser().parse_args(shlex.split(line)[1:])
    assert arguments.model == name
    parse_options(name, dict(text.split("=", 1) for text in arguments.set))


@pytest.mark.parametrize("path", sorted((REPO / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_right(path: Path) -> None:
    if path.name == settings.FILE:
        assert settings.load(config=str(path), environ={}).allow_private
        return
    assert recipes.load(path).corpus == path.stem
    assert not re.search(r"[\"'](/|~|[A-Z]:\\)", path.read_text()), "an absolute path of somebody's machine"


def reasons_in(path: Path) -> set[str]:
    """The reasons that a module gives as plain text: of a reject, or of a decision to drop."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        values = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
        if called == "Rejected" and values and isinstance(values[0], str):
            found.add(values[0])
        if called == "Decision" and len(values) > 2 and values[1] == "drop" and isinstance(values[2], str):
            found.add(values[2])
    return found


def test_every_reason_that_is_given_is_in_the_vocabulary() -> None:
    known = set(REASONS)
    for kind, name in PARTS:
        known |= set(find(KINDS[kind], name).reasons)  # type: ignore[type-var]  # one of three kinds
    given = {path: reasons_in(path) for path in (REPO / "stoker").rglob("*.py")}
    assert {str(path): sorted(reasons - known) for path, reasons in given.items() if reasons - known} == {}


def test_every_reason_of_every_part_names_its_class() -> None:
    """None relies on what a text alone stands for, which is for plug-ins."""
    own = {name: find(KINDS[kind], name).reasons for kind, name in PARTS}  # type: ignore[type-var]  # one of three kinds
    plain = {name: word for name, reasons in own.items() for word, reason in reasons.items() if isinstance(reason, str)}
    assert plain == {}
    assert {reason.outcome_class for reason in REASONS.values()} == set(OutcomeClass)


def test_every_reason_says_what_it_means() -> None:
    meanings = {reason: about.meaning for reason, about in REASONS.items()}
    assert [reason for reason, meaning in meanings.items() if not meaning or meaning.endswith(".")] == []


def test_the_readme_has_every_command_and_no_other() -> None:
    assert sorted({row[0].strip("`").split()[1] for row in table("Commands")}) == COMMANDS


def test_every_command_line_of_the_readme_is_understood() -> None:
    lines = [line.split("  #")[0].strip() for block in blocks("(?:text|sh)") for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ ")) for line in lines if line.removeprefix("$ ").startswith("stoker ")]
    assert len(commands) > 10
    for words in commands:
        parser().parse_args(words[1:])


def test_every_make_target_of_the_readme_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE)) <= targets


def test_the_readme_has_the_table_of_settings() -> None:
    expected = [[f"`{one.variable}`", one.default and f"{one.default}", one.meaning] for one in settings.table()]
    assert table("Settings") == [[cell or "–" for cell in row] for row in expected]


def test_the_readme_has_every_source_step_rule_and_model() -> None:
    expected = []
    for kind, name in PARTS:
        offered = find(KINDS[kind], name)  # type: ignore[type-var]  # one of three kinds
        expected.append([f"`{name}`", kind, summary(offered)])
    expected += [[f"`{name}`", "model", summary(models.find(name))] for name in models.names()]
    assert table("Sources, steps, rules, models") == expected


def summary(offered: type) -> str:
    """The first line of the part's file, which holds nothing else."""
    module = inspect.getmodule(offered)
    return inspect.cleandoc(module.__doc__ or "").splitlines()[0].replace("``", "`").rstrip(".") if module else ""


def test_every_recipe_in_the_readme_is_right() -> None:
    found = [tomllib.loads(block) for block in blocks("toml")]
    assert any("source" in document for document in found)
    for document in found:
        if "source" in document or "steps" in document or "rules" in document:
            recipes.parse(whole(document), root=REPO)


def test_the_python_in_the_readme_compiles_and_imports_what_is_there() -> None:
    found = blocks("python")
    assert found
    for block in found:
        tree = ast.parse(block)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert {"stoker", "torch"} & {name.partition(".")[0] for name in re.findall(r"(?:from|import) (\S+)", block)}
        for node in imports:
            exec(compile(ast.Module([node], []), "README.md", "exec"), {})


def test_what_the_readme_does_in_python_works_on_a_version_of_that_name(tmp_path: Path) -> None:
    (block,) = [block for block in blocks("python") if "stoker.corpora(" in block]
    store = DirectoryStore(tmp_path / "store")
    record = {"label": "3", "licence": "CC0-1.0"}
    samples = [Sample(f"digit-{number:04d}", {"png": b"x"}, record) for number in range(40, 44)]
    first = corpora.version(store, tmp_path, {"train": samples}, corpus="digits")
    publish(store, replace(first, version=2))
    names: dict[str, Any] = {}
    exec(re.sub(r'^store = "[^"]+"', f'store = "{store.url}"', block, flags=re.MULTILINE), names)
    assert names["sample"].key == "digit-0040"
    assert names["stoker"].corpora(names["store"]) == {"digits": 2}


def test_the_map_in_the_readme_names_what_is_there() -> None:
    """Every line begins with a path; every folder of the package and everything at the top has its line."""
    section = README.split("## Map of the tree\n", 1)[1].split("\n## ", 1)[0]
    block = re.findall(r"^```text\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)[0]
    named = {line.split()[0].rstrip("/") for line in block.splitlines() if line.strip()}
    assert [path for path in named if not (REPO / path).exists()] == []
    files = [path.relative_to(REPO) for path in tracked()]
    folders = {str(path.parent) for path in files if path.parts[0] == "stoker" and path.suffix == ".py"}
    top = {path.parts[0] for path in files if not path.parts[0].startswith(".git")}
    assert (folders | top) - named == set()


def public() -> list[tuple[str, type]]:
    """The classes of every ``__all__`` of the package, by the module that offers them."""
    classes = {}
    for name in ("stoker", "stoker.storage", "stoker.training", "stoker.testing"):
        module = importlib.import_module(name)
        for public_name in module.__all__:
            value = getattr(module, public_name)
            if inspect.isclass(value):
                classes[f"{name}.{public_name}"] = value
    return sorted(classes.items())


@pytest.mark.parametrize(("name", "offered"), public(), ids=[name for name, _ in public()])
def test_every_public_class_has_an_example_that_runs(name: str, offered: type) -> None:
    """The examples are doctests, and so run with the other tests."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(offered) or "")
    assert examples, f"{name}: its docstring has no line that begins with >>>"


@pytest.mark.parametrize(("name", "offered"), public(), ids=[name for name, _ in public()])
def test_every_option_of_a_public_class_is_explained(name: str, offered: type) -> None:
    """In its docstring or that of a class it extends: as ``option``, by a line ``option: ...``, or behind its field."""
    if issubclass(offered, BaseException) or getattr(offered, "_is_protocol", False):
        return
    ours = [base for base in offered.__mro__ if base.__module__.startswith("stoker")]
    documented = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in ours)
    source = "\n".join(inspect.getsource(base) for base in ours)
    options = [option for option in inspect.signature(offered).parameters if option not in ("args", "kwargs")]
    assert [
        option
        for option in options
        if not re.search(rf"``{option}``|^ +(?:\w+, )*{option}(?:, \w+)*: ", documented, re.MULTILINE)
        and not re.search(rf"^ +{option}: .*  # ", source, re.MULTILINE)
    ] == []


QUOTED_PATH = re.compile(r"(?<![\w.:/<-])((?:[\w-]+/)+[\w.-]+\.(?:py|toml|md|txt|html|json))(?![\w/])")
QUOTED_NAME = re.compile(r"``(stoker(?:\.\w+)+)")


def prose(path: Path) -> str:
    """The docstrings and comments of a Python file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    parts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    comments = [
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    return "\n".join(parts + comments)


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, rest = name, list[str]()
    while module:
        try:
            value: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
            continue
        return all((value := getattr(value, attribute, None)) is not None for attribute in rest)
    return False


def test_every_path_and_name_that_the_code_quotes_is_there() -> None:
    """In docstrings and comments: paths of this repository, and dotted names of the package."""
    wrong = []
    for path in tracked():
        if path.suffix != ".py" or not path.is_relative_to(REPO / "stoker"):
            continue
        text = prose(path)
        for quoted in QUOTED_PATH.findall(text):
            first = quoted.split("/")[0]
            if first not in QUOTED_FOLDERS:
                continue  # of a corpus, of a user, of another project
            if not any((root / quoted).exists() for root in (REPO, REPO / "stoker")) and "<" not in quoted:
                wrong.append(f"{path.relative_to(REPO)}: {quoted}")
        wrong += [f"{path.relative_to(REPO)}: {name}" for name in QUOTED_NAME.findall(text) if not resolves(name)]
    assert wrong == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_path_of_the_repository_that_a_page_names_is_there(page: str) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    quoted = re.findall(rf"(?:`|\]\(|pytest (?:-m \S+ \S+ )?)((?:{'|'.join(QUOTED_FOLDERS)})/[\w./-]*)", text)
    assert len(quoted) > 10
    assert [path for path in quoted if not (REPO / path).exists()] == []
