"""`stoker example`: the recipes that come with Stoker, to start from."""

import json
import os
from argparse import Namespace
from importlib.resources import files
from pathlib import Path

from stoker.storage.errors import AlreadyExists, NotFound, StorageRefused

_SUFFIX = ".toml"
_SETTINGS = "stoker"  # settings for the demo's web site lie beside the recipes


def example(arguments: Namespace) -> int:
    """Print the names of the recipes, or write one as NAME.toml into the working directory, over no other file."""
    recipes = _recipes()
    if not arguments.name:
        if arguments.json:
            print(json.dumps({name: _title(text) for name, text in recipes.items()}, indent=1))
        else:
            print("\n".join(f"{name:<10} {_title(text)}" for name, text in recipes.items()))
        return 0
    if arguments.name not in recipes:
        raise NotFound(f"example {arguments.name[:80]!r}: there are {', '.join(recipes)}")
    path = Path.cwd() / f"{arguments.name}{_SUFFIX}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(recipes[arguments.name])
    except FileExistsError:
        raise AlreadyExists(f"{path}: it is there already and stays as it is; remove it, or work elsewhere") from None
    except OSError as error:
        raise StorageRefused(f"{path}: cannot be written ({error.strerror}); work in another folder") from None
    print(json.dumps({"recipe": os.fspath(path)}) if arguments.json else path.name)
    return 0


def _recipes() -> dict[str, str]:
    """The texts of the recipes in the package, by name."""
    folder = files("stoker.flows.demo") / "recipes"
    names = sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))
    return {name: (folder / f"{name}{_SUFFIX}").read_text("utf-8") for name in names if name != _SETTINGS}


def _title(text: str) -> str:
    """The first line of a recipe, which is a comment."""
    return text.partition("\n")[0].removeprefix("#").strip()
