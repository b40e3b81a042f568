"""Plug-ins: told apart by distribution and class, never shadowed, and refused in one line when they cannot work."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines import registry
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.stages.ingest import part_digest
from stoker.pipelines.step import Step
from stoker.testing.contracts.process import call_elsewhere
from stoker.training.errors import TrainingError
from stoker.training.run import model as models
from stoker.training.run.options import parse_options, run_identity
from tests.distributions import install

KINDS = {"sources": Source, "steps": Step, "rules": Rule}
STEP = """
from dataclasses import dataclass, field
from collections.abc import Callable
from typing import ClassVar
from stoker.pipelines.step import Step

@dataclass(frozen=True)
class Wm(Step):
    size: int = 1

    def __call__(self, sample, /):
        return sample
"""
SOURCE = """
from dataclasses import dataclass
from stoker.pipelines.source import Source

@dataclass(frozen=True)
class Rows(Source):
    def partitions(self, context):
        yield from ()

    def read(self, partition, context):
        yield from ()
"""
RULE = """
from dataclasses import dataclass
from stoker.pipelines.rule import Rule

@dataclass(frozen=True)
class Cap(Rule):
    columns = ("author",)

    def decide(self, rows, tools):
        return tools.sql("SELECT key, 'drop' AS action, 'empty' AS value FROM rows ORDER BY key")
"""
MODEL = """
from dataclasses import dataclass
from stoker.training.models.cnn import Cnn

@dataclass(frozen=True)
class Net(Cnn):
    more: int = 1
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; what a test imports of it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def recipe(**changes: Any) -> Recipe:
    document = {"corpus": "golden", "source": {"name": "local_files", "files": "x"}}
    return parse(document | changes, root=Path(), where="birds.toml")


def refusal(name: str, group: str = "steps") -> str:
    """What a recipe with this part is told, or a training with this model."""
    if group == "models":
        with pytest.raises(TrainingError) as failed:
            models.find(name)
        return str(failed.value)
    table = {"name": name}
    with pytest.raises(RecipeError) as caught:
        recipe(**{"source" if group == "sources" else group: table if group == "sources" else [table]})
    place = "source" if group == "sources" else f"{group}[0]"
    assert str(caught.value).startswith(f"birds.toml: {place}: ")
    return str(caught.value).removeprefix(f"birds.toml: {place}: ")


GOLDEN_SOURCES = {
    "hugging_face": ("823a4408fb10fc7c35068873f0f00680", "5446c9b3f06988b88ed9cc69c8d8358b"),
    "image_urls": ("8591022803a91c4c648e66892df39606", "b51a77b6b4a78d56067ceffe4ed316ff"),
    "local_files": ("34bac7cdf9e00df7a4f8ada8b76b449c", "cf81de041ae6da4968ae5584fecd1d4f"),
    "video_frames": ("a6f71f953e210c28cfaaf22c45e0c660", "c4e39dffce7ca2ab7b08b9db3b861395"),
    "wikipedia_dump": ("cea6b3cf0d8f3276271e619b99ba4f41", "6fb9dbf7e59828c35efb510b7bd3fcb9"),
}
OPTIONS = {
    "hugging_face": {"dataset": "ylecun/mnist"},
    "image_urls": {"lists": "urls.csv"},
    "local_files": {"files": "pictures"},
    "video_frames": {"videos": "*.mp4"},
    "wikipedia_dump": {"dump": "x.xml.bz2"},
}
GOLDEN_STEPS = {
    "aspect_ratio": ("550c83d80f615182d9bb892b3116c6b1", "a966c8c93bc36525be3c2fba812a87d3"),
    "image": ("d109386ffc4386c9318e7525079a82ec", "7e8b06587b28d2088ad42415e0771134"),
    "image_size": ("8d9ed293fa399df6cae0b42af6bef9c4", "fd84d61753b1b125beaa3891313081cf"),
    "language": ("8856ef93c44240065c663c7c6f341b36", "7e58d9e7b5584c2c451c0f90aa0f00ad"),
    "text_length": ("11444e66036f88b44ed7957972f2fd5e", "20e1ba81c86d89ec065851eceeebc07e"),
    "text_normalise": ("db38caac89ad9f7a7a7708d5b9093fe7", "1c0c62536909d11d177c1799a006799b"),
}
GOLDEN_RULES = {
    "exact_duplicates": ("974fd58b8fc171e2c5be446a69152454", "19de6279ef6b2eb0095e4c8cd21a5701"),
    "leak_free_split": ("46456a086884fa499d0c1acde32f64a5", "b79358b5b9c7e6c608fb3f332288ca23"),
    "near_duplicate_images": ("e3e1835393ab76c2d2760cda0779f1c2", "1c08cf6fb671b85b7a7a4cb858d18353"),
    "near_duplicate_texts": ("9d35d21b7f4df92c120a05a7acc95e84", "327dec8040d3234d72c8cdfda67abdb1"),
}
GOLDEN_MODELS = {"cnn": "b5d4e697f7b0df8733c1725224a82027", "lstm": "db1e7c3899486484b5fdd4f3c37d499f"}


def test_what_is_built_in_has_the_digests_that_it_always_had() -> None:
    """Another digest makes everybody fetch everything again: raise a version, and pin the new values here."""
    partition = Partition("p", {"a": 1})
    sources = {name: recipe(source={"name": name, **options}) for name, options in OPTIONS.items()}
    assert {name: (part_digest(one, partition), one.digest[:32]) for name, one in sources.items()} == GOLDEN_SOURCES
    steps = {name: recipe(steps=[{"name": name}]) for name in GOLDEN_STEPS}
    assert {name: (part_digest(one, partition), one.digest[:32]) for name, one in steps.items()} == GOLDEN_STEPS
    rules = {name: recipe(rules=[{"name": name}]) for name in GOLDEN_RULES}
    assert {name: (digest(one.curation)[:32], one.digest[:32]) for name, one in rules.items()} == GOLDEN_RULES
    runs = {name: run_identity(name, *parse_options(name, {})) for name in GOLDEN_MODELS}
    assert {name: digest(run)[:32] for name, run in runs.items()} == GOLDEN_MODELS


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS.values() for name in registry.names(kind)],  # type: ignore[type-var]  # one of three
)
def test_what_is_asked_of_a_plug_in_every_built_in_one_keeps(kind: type[Any], name: str) -> None:
    assert registry.component_problem(kind, registry.find(kind, name)) == ""


@pytest.mark.parametrize(
    ("group", "name", "value", "source"),
    [
        ("sources", "local_files", "wm:Rows", SOURCE),
        ("steps", "image", "wm:Wm", STEP),
        ("rules", "exact_duplicates", "wm:Cap", RULE),
        ("models", "cnn", "wm:Net", MODEL),
    ],
)
def test_a_built_in_part_is_never_replaced(group: str, name: str, value: str, source: str, site: Path) -> None:
    install(site, "stoker-wm", {f"{group} {name}": value}, wm=source)
    kind = group.removesuffix("s")
    assert refusal(name, group) == (
        f"{kind} '{name}': there is one of Stoker itself and one of stoker-wm (entry point {name} = {value}); "
        f"uninstall stoker-wm, or have it give its {kind} another name"
    )


def test_two_plug_ins_of_one_name_are_refused_and_others_of_theirs_are_not(site: Path) -> None:
    install(site, "stoker-a", {"steps wm": "a:Wm", "steps a": "a:Wm"}, a=STEP)
    install(site, "Stoker_B", {"steps wm": "b"}, b=STEP)
    message = refusal("wm")
    assert "one of stoker-a (entry point wm = a:Wm) and one of stoker-b (entry point wm = b)" in message
    assert registry.name_of(recipe(steps=[{"name": "a"}]).steps[0]) == "a"


def test_two_packages_with_a_class_of_one_name_share_no_digest(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractions = []
    for distribution in ("stoker-a", "stoker-b"):
        folder = site / distribution
        install(folder, distribution, {"steps wm": "wm:Wm"}, wm=STEP)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            patch.delitem(sys.modules, "wm", raising=False)
            extractions.append(recipe(steps=[{"name": "wm"}]).extraction["steps"])
    identity = {"name": "wm", "version": 1, "options": {"size": 1}, "class": "wm:Wm"}
    assert extractions == [[identity | {"distribution": "stoker-a"}], [identity | {"distribution": "stoker-b"}]]


def test_a_run_of_a_plug_ins_model_is_known_by_its_distribution_and_class(site: Path) -> None:
    install(site, "stoker-net", {"models net": "net:Net"}, net=MODEL)
    run = run_identity("net", *parse_options("net", {"more": "2"}))
    assert (run["model"], run["distribution"], run["class"], run["options"]["more"]) == (
        "net",
        "stoker-net",
        "net:Net",
        2,
    )


def test_a_parts_name_is_that_of_its_entry_point_in_every_process(site: Path) -> None:
    """Whatever its module is called; of two names of one class it is the first, whichever a recipe uses."""
    (site / "pkg").mkdir()
    (site / "pkg" / "__init__.py").write_text("from pkg.impl import Wm\n")
    (site / "pkg" / "impl.py").write_text(STEP)
    install(site, "stoker-wm", {"steps watermark": "pkg:Wm", "steps stamp": "pkg:Wm", "steps bad": "gone"})
    for name in ("watermark", "stamp"):
        (step,) = recipe(steps=[{"name": name}]).steps
        assert registry.name_of(step) == "stamp"
        assert registry.plugin_identity(step) == {"distribution": "stoker-wm", "class": "pkg.impl:Wm"}
    assert call_elsewhere(registry.name_of, step) == "stamp"


def test_an_entry_point_may_name_one_of_several_classes(site: Path) -> None:
    two = STEP + STEP.split("\n\n", 1)[1].replace("class Wm", "class Other")
    install(site, "stoker-wm", {"steps other": "wm:Other", "steps first": "wm : Wm [fast]", "steps any": "wm"}, wm=two)
    assert registry.find(Step, "other").__name__ == "Other"
    assert registry.find(Step, "first").__name__ == "Wm"
    message = refusal("any")
    assert message.startswith("step 'any' of stoker-wm (entry point any = wm): ")
    assert (
        "wm.py: defines 2 steps (Wm, Other), expected exactly one; an entry point may name it, as wm:Class" in message
    )


BROKEN: dict[str, tuple[str, str, str, str]] = {
    # what is broken: (group, the entry point's value, its module, what is said after "step 'wm' of ...: ")
    "no module": (
        "steps", "gone.wm:Wm", STEP,
        "there is no module 'gone' (ModuleNotFoundError: No module named 'gone'); install stoker-wm again",
    ),
    "a malformed value": (
        "steps", "wm module", STEP, "expected the entry point to name a module, or a class as package.module:Class",
    ),
    "a missing dependency": (
        "steps", "wm", "import cv9\n" + STEP,
        "its import fails: ModuleNotFoundError: No module named 'cv9' (wm.py, line 1); install what stoker-wm needs",
    ),
    "another version of Stoker": (
        "steps", "wm", "from stoker.pipelines.stepp import Step\n",
        "its import fails: ModuleNotFoundError: No module named 'stoker.pipelines.stepp' (wm.py, line 1); it was "
        "written for another version of Stoker, whose CHANGELOG says under Breaking what moved",
    ),
    "a name that Stoker lacks": (
        "steps", "wm", "from stoker.pipelines.step import Stepp\n", "for another version of Stoker, whose CHANGELOG",
    ),
    "an error at import": (
        "steps", "wm", STEP + "\n\n1 / 0\n",
        "its import fails: ZeroDivisionError: division by zero (wm.py, line 15); `python -c 'import wm'` shows where",
    ),
    "a syntax error": ("steps", "wm", "class", "its import fails: SyntaxError: invalid syntax (wm.py, line 1); "),
    "an exit at import": ("steps", "wm", "raise SystemExit('no key')", "its import fails: SystemExit: no key (wm.py"),
    "an error of two lines": ("steps", "wm", "raise KeyError('a\\nb')", "its import fails: KeyError: 'a\\nb' (wm.py"),
    "a missing class": ("steps", "wm:Wmx", STEP, "module wm has no 'Wmx'; did you mean 'Wm'?"),
    "a missing inner class": ("steps", "wm:Wm.Inner", STEP, "module wm has no 'Wm.Inner'"),
    "a reason that is no text": (
        "steps",
        "wm:Wm",
        STEP.replace("size: int = 1", "reasons = {'too_dark': 3}\n    size: int = 1"),
        "class Wm: its reason 'too_dark' is int 3, expected a text or a Reason",
    ),
    "no class": ("steps", "wm", "from stoker.pipelines.step import Step\n", "defines 0 steps, expected exactly one"),
    "a function": ("steps", "wm:make", "def make(): ...", "it is function <function make at "),
    "a class of another kind": ("sources", "wm:Wm", STEP, "it is class Wm, expected a class of a source"),
    "an instance": ("steps", "wm:wm", STEP + "\nwm = Wm()", "it is Wm Wm(size=1), expected a class of a step"),
    "no __call__": (
        "steps", "wm", STEP.replace("__call__", "apply"),
        "class Wm has no __call__(self, sample, /), which every step needs; it has: apply",
    ),
    "wrong parameters": (
        "steps", "wm", STEP.replace("sample, /", "sample, record"),
        "class Wm has __call__(self, sample, record), expected __call__(self, sample, /)",
    ),
    "no read": (
        "sources", "wm", SOURCE.replace("def read(", "def fetch("),
        "class Rows has no read(self, partition, context), which every source needs; it has: partitions, fetch",
    ),
    "an attribute for a method": (
        "sources", "wm", SOURCE.replace("def read(", "read: bool = True\n\n    def fetch("),
        "class Rows has 'read' as an attribute, expected read(self, partition, context)",
    ),
    "too few parameters": (
        "rules", "wm", RULE.replace(", tools)", ")"),
        "class Cap has decide(self, rows), expected decide(self, rows, tools)",
    ),
    "a rule of Stoker 0.1.0": (
        "rules", "wm", RULE.replace("rows, tools", "records, split_of"),
        "class Cap has decide(self, records, split_of), as rules had until Stoker 0.1.0; write "
        "decide(self, rows, tools), name the columns that it reads in `columns`, and return decisions(...) of "
        "stoker.pipelines.rule; split_of is tools.split_of",
    ),
    "a rule that yields": (
        "rules", "wm", RULE.replace("return", "yield"),
        "class Cap yields in decide, expected it to return a table, as decisions(...) makes it",
    ),
    "columns that are a text": (
        "rules", "wm", RULE.replace('("author",)', '("author")'),
        "class Cap has columns = 'author', expected a tuple of names, as (\"author\",)",
    ),
    "an option by the name of the columns": (
        "rules", "wm", RULE.replace("columns = ", "optional_columns: tuple[str, ...] = "),
        "class Cap has an option 'optional_columns', which is the name of what lists its columns",
    ),
    "abstract methods": (
        "steps", "wm", "import abc\n"
        + STEP.replace("(Step)", "(Step, abc.ABC)").replace("    def __", "    @abc.abstractmethod\n    def __"),
        "class Wm leaves __call__ abstract; define it",
    ),
    "no dataclass": (
        "steps", "wm", STEP.replace("@dataclass(frozen=True)\n", ""),
        "class Wm is no dataclass; write @dataclass(frozen=True) above it: its fields are the options",
    ),
    "a dataclass that is not frozen": (
        "steps", "wm", STEP.replace("(frozen=True)", ""),
        "class Wm is no frozen dataclass; write @dataclass(frozen=True)",
    ),
    "options of no dataclass": (
        "steps", "wm:Child", STEP + "\nclass Child(Wm):\n    more: int = 1\n    limit: ClassVar[int] = 3\n",
        "class Child has an option 'more', but is no dataclass itself",
    ),
    "an option that TOML cannot give": (
        "steps", "wm", STEP.replace("size: int = 1", "size: Callable[[], int] = int"),
        "option 'size' of class Wm has a type that TOML cannot give; expected text, numbers, true or false, lists",
    ),
    "an option of its own type": (
        "steps", "wm", STEP.replace("size: int = 1", "size: Step | None = None"),
        "option 'size' of class Wm has a type that TOML cannot give",
    ),
    "an option of which digests differ": (
        "steps", "wm", STEP.replace("size: int = 1", "size: frozenset[str] = frozenset()"),
        "option 'size' of class Wm is a set, whose order differs between processes; expected a tuple",
    ),
    "a default that TOML cannot give": (
        "steps", "wm", STEP.replace("size: int = 1", "size: object = field(default_factory=object)"),
        "option 'size' of class Wm has a default that TOML cannot give (object)",
    ),
    "options of unknown types": (
        "steps", "wm", STEP.replace("size: int = 1", "size: 'Missing' = 1"),
        "the types of its options cannot be read: NameError: name 'Missing' is not defined",
    ),
    "a planning option that is none": (
        "sources", "wm", SOURCE.replace("(Source):", "(Source):\n    planning = frozenset({'fils'})\n"),
        "class Rows has no option 'fils', which its `planning` names",
    ),
    "a rule's option of paths that is none": (
        "rules", "wm", RULE.replace("(Rule):", "(Rule):\n    path_options = frozenset({'file'})\n"),
        "has no option 'file', which its `path_options` names",
    ),
    "a reserved reason": (
        "sources", "wm", SOURCE.replace("(Source):", "(Source):\n    reasons = {'known': 'seen before'}\n"),
        "class Rows declares the reason 'known', which stands for unchanged candidates",
    ),
    "a model without a method": (
        "models", "wm:Wm", STEP.replace("__call__", "compute_loss").replace("(Step)", ""),
        "class Wm has no prepare(self, corpus, split), which every model needs; it has: compute_loss",
    ),
    "a model with a wrong method": (
        "models", "wm", MODEL + "\n    def data(self, corpus, split, schema, *, batch_size, seed):\n        ...\n",
        "class Net has data(self, corpus, split, schema, *, batch_size, seed), expected data(self, corpus, split, "
        "schema, *, batch_size, seed, training)",
    ),
    "a model that fails at import": (
        "models", "wm", "import cv9", "its import fails: ModuleNotFoundError: No module named 'cv9' (wm.py, line 1); ",
    ),
    "a model that is no model": ("models", "wm:Wm", STEP, "it is class Wm, expected a class of a model"),
    "a model with an option that no text gives": (
        "models", "wm", MODEL.replace("int = 1", "tuple[int, ...]").replace("=True)", "=True, kw_only=True)"),
        "option 'more' of class Net has a type that --set cannot give",
    ),
    "a model with a default that no checkpoint holds": (
        "models", "wm", MODEL.replace("more: int = 1", "more: object = object"),
        "has a default that JSON cannot hold (type)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_plug_in_that_cannot_work_is_refused_in_one_line_that_names_it(what: str, site: Path) -> None:
    group, value, source, expected = BROKEN[what]
    install(site, "stoker-wm", {f"{group} wm": value}, wm=source)
    message = refusal("wm", group)
    assert message.startswith(f"{group.removesuffix('s')} 'wm' of stoker-wm (entry point wm = {value}): ")
    assert expected in message
    assert "\n" not in message


def test_a_model_whose_option_is_not_given_says_which(site: Path) -> None:
    source = MODEL.replace("more: int = 1", "more: int").replace("(frozen=True)", "(frozen=True, kw_only=True)")
    install(site, "stoker-net", {"models net": "net"}, net=source)
    with pytest.raises(TrainingError, match=r"model 'net' needs option 'more'; set it: --set more=VALUE"):
        parse_options("net", {})
    assert parse_options("net", {"more": "3"})[0].more == 3


def test_static_methods_and_defaults_are_methods_too(site: Path) -> None:
    static = STEP.replace("    def __call__(self, sample, /)", "    @staticmethod\n    def __call__(sample, /, *more)")
    install(site, "stoker-wm", {"steps wm": "wm"}, wm=static)
    assert registry.find(Step, "wm").__name__ == "Wm"
