"""What sources, steps and rules have in common: options that cannot change, a digest, reasons and an example.

The digest of the options decides whether finished work is done again, so it must be the same in every process; the
example is a component's documentation in the README's sense: what it shows must work.
"""

import dataclasses
import inspect
import pickle
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from stoker.pipelines import recipe as recipes
from stoker.pipelines.recipe import Limits, Recipe, Schedule, Sharding
from stoker.pipelines.registry import find, name_of
from stoker.pipelines.rejected import REASONS, Rejected, declared
from stoker.pipelines.rule import Rule, reasons_given
from stoker.pipelines.source import Provenance, Source
from stoker.pipelines.step import Step
from stoker.testing.contracts.process import call_elsewhere
from stoker.testing.deciding import SPLITS

Component = Source | Step | Rule


def _digest(component: Component) -> str:
    return recipe_of(component).digest


class ComponentContract:
    """Tests of a source, step or rule as such."""

    @pytest.fixture
    def component(self) -> Component:
        """The source, step or rule."""
        raise NotImplementedError("use SourceContract, StepContract or RuleContract")

    def test_it_is_a_frozen_dataclass_that_a_recipe_finds_by_the_name_of_its_file(self, component: Component) -> None:
        assert dataclasses.is_dataclass(type(component))
        for option in options_of(component):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(component, option, getattr(component, option))
        assert type(component) is _class_by_name(component)
        assert type(component.version) is int
        assert component.version >= 1

    def test_its_options_have_one_digest_in_every_process(self, component: Component) -> None:
        assert pickle.loads(pickle.dumps(component)) == component
        assert call_elsewhere(_digest, component) == _digest(component)
        if isinstance(component, Source):
            assert component.planning <= set(options_of(component))

    def test_its_reasons_are_new_words_with_a_meaning(self, component: Component) -> None:
        assert set(component.reasons) & set(REASONS) == set(), "these are Stoker's own: use them without declaring them"
        for reason, about in declared(component.reasons).items():
            Rejected(reason)  # raises ValueError for what is no word
            assert about.meaning
            assert not about.meaning.endswith("."), "a phrase for tables and sentences"

    def test_the_example_in_its_docstring_is_a_recipe(self, component: Component) -> None:
        document = tomllib.loads(example_of(type(component).__doc__))
        around = {"corpus": "example", "source": {"name": "local_files", "files": "."}}
        parsed = recipes.parse(around | document, root=Path())
        assert type(component) in {type(other) for other in (parsed.source, *parsed.steps, *parsed.rules)}


@dataclass(frozen=True)
class _Nowhere(Source):
    """Stands in a recipe of which only a step or a rule is of interest."""


def recipe_of(component: Component) -> Recipe:
    """A recipe with this component alone."""
    return Recipe(
        corpus="contract",
        source=component if isinstance(component, Source) else _Nowhere(),
        steps=(component,) if isinstance(component, Step) else (),
        rules=(component,) if isinstance(component, Rule) else (),
        splits=SPLITS,
        shards=Sharding(),
        limits=Limits(),
        provenance=Provenance(),
        schedule=Schedule(),
        document={},
    )


def known_reasons(component: Component) -> set[str]:
    """What it may reject or drop for: the vocabulary, and what it declares itself."""
    return {*REASONS, *(reasons_given(component) if isinstance(component, Rule) else component.reasons)}


def example_of(docstring: str | None) -> str:
    """The indented block behind the line ``Example::`` of a docstring.

    >>> example_of("A step.\\n\\n    Example::\\n\\n        name = 'x'\\n    ")
    "name = 'x'"
    """
    text = inspect.cleandoc(docstring or "")
    assert "Example::" in text, "the docstring has no example: a line `Example::` and a recipe, indented, behind it"
    return inspect.cleandoc(text.split("Example::", 1)[1].split("\n\n", 1)[1])


def options_of(component: Component) -> list[str]:
    """The names of its options."""
    return [option.name for option in dataclasses.fields(component)]  # type: ignore[arg-type]  # a dataclass, as is tested


def _class_by_name(component: Component) -> type[Component]:
    """What a recipe gets by the component's name."""
    name = name_of(component)
    if isinstance(component, Source):
        return find(Source, name)
    return find(Step, name) if isinstance(component, Step) else find(Rule, name)
