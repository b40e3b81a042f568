"""Every source explains each of its options in one line: type, default and meaning."""

import dataclasses
import inspect
import re
from typing import Any

import pytest

from stoker.pipelines.registry import find, names
from stoker.pipelines.source import Source


@pytest.mark.parametrize("name", names(Source))
def test_every_option_of_a_source_has_one_line(name: str) -> None:
    source: Any = find(Source, name)  # Any: each source is a dataclass, which the base class does not say
    section = inspect.cleandoc(source.__doc__ or "").split("Args:\n")[1].split("\n\n")[0]
    lines = [re.fullmatch(r"    (\w+) \((.+?)\): (.+\.)", line) for line in section.splitlines()]
    assert None not in lines
    fields = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(source)}
    assert {line[1]: "default" not in line[2] for line in lines if line} == fields
