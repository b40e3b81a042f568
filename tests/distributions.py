"""Installed distributions with entry points, written into a folder of ``sys.path``."""

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, points: Mapping[str, str], **modules: str) -> None:
    """Write a distribution into the folder.

    ``points`` maps "group name", as "steps wm", to an entry point's value; ``modules`` names to sources.
    """
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = sorted({point.split()[0] for point in points})
    lines = []
    for group in groups:
        lines.append(f"[stoker.{group}]")
        lines += [f"{point.split()[1]} = {value}" for point, value in points.items() if point.split()[0] == group]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
