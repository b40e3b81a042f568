"""What a plug-in for version 0.1.0 imports is still there, and warns."""

import sys
from importlib import import_module

import pytest

from stoker import old_paths


@pytest.mark.parametrize("old", sorted(old_paths.MOVED))
def test_an_old_path_gives_the_new_module_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {old_paths.MOVED[old]}; the old path") as warned:
        module = import_module(old)
    assert module is import_module(old_paths.MOVED[old])
    assert module.__name__ == old_paths.MOVED[old]
    assert len(warned) == 1


OLD_IMPORTS = """
from stoker.storage.sample import Sample
from stoker.storage.store import Store
from stoker.pipelines.image import decode, encode, field_of
from stoker.pipelines.image_format import extension_of
from stoker.pipelines.web import Fetched, Transient, Web
from stoker.pipelines.text import measures_of_text
from stoker.training.model import Corpus, Model
from stoker.training.loader import Loader, Stream
from stoker.training.pictures import PictureMaker
from stoker.training.stream import ShardStream
from stoker.training.text import TextStream
import stoker.storage.manifest
assert stoker.storage.manifest.Manifest is Manifest
"""


@pytest.mark.parametrize("line", OLD_IMPORTS.strip().splitlines())
def test_what_a_plug_in_of_the_last_layout_imports_is_there(line: str, recwarn: pytest.WarningsRecorder) -> None:
    from stoker import Manifest

    for name in old_paths.MOVED:
        sys.modules.pop(name, None)
    exec(line if not line.startswith("assert") else f"import stoker.storage.manifest\n{line}", {"Manifest": Manifest})
    assert {warning.category for warning in recwarn} == {DeprecationWarning}
    assert {warning.filename for warning in recwarn} == {"<string>"}, "the warning names the line that imports"


def test_a_name_that_never_was_is_missing_as_any_other() -> None:
    import stoker.pipelines.web

    with pytest.raises(AttributeError, match=r"module 'stoker\.pipelines\.web' has no attribute 'Wb'"):
        _ = stoker.pipelines.web.Wb  # type: ignore[attr-defined]  # that is the test
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'stoker\.storage\.samples'"):
        import_module("stoker.storage.samples")
