"""A page of the largest size that is read takes little memory, whatever it is made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from stoker.pipelines.wikipedia.page_cutter import MAX_PAGE
from tests.pipelines.sources.test_wikipedia_dump import dump, page

_MOST = 150  # megabytes above a dump of small pages
_READ = """
import sys
from pathlib import Path
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from tests.fakes import context

source, where = WikipediaDump("dewiki.xml", partition_megabytes=100), context(Path(sys.argv[1]))
candidates = [candidate.rejected for part in source.partitions(where) for candidate in source.read(part, where)]
assert candidates == [None, None], candidates
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) // 1024)
"""
_BY_DAY = ("an emoji in each line", "closed brackets")
UNITS = {
    "prose": "Tin is a chemical element; it melts at 232 degrees.\n",
    "links": "[[Tin ore|ore]] of '''tin''' {{nowrap|5 kg}} ",
    "an emoji in each line": "Tin 😀 is a [[metal]] and <br/> ''soft''.<!-- sic --> ({{lang|la|stannum}})\n",
    "footnotes": "Tin<ref>{{cite web|title=Tin|url=http://a.example/}}</ref> is soft. ",
    "tables": "\n{|\n|-\n| tin || [[metal]]\n|}\n* item",
    "headings": "\n* tin\n== Ore ==\n",
    "marks": "''tin'' ",
    "open brackets": "{{a|",
    "closed brackets": "]]}}",
    "entities": "&amp;ndash;",
}


def peak(folder: Path, text: str) -> int:
    """Megabytes that a process has taken at most after it read a dump of this page and a small one."""
    folder.mkdir()
    (folder / "dewiki.xml").write_bytes(dump(page(1, text), page(2, "Zinn")))
    command = [sys.executable, "-c", _READ, str(folder)]
    root = Path(__file__).parents[2]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "unit", [pytest.param(unit, marks=() if unit in _BY_DAY else pytest.mark.nightly) for unit in UNITS]
)
def test_a_page_just_under_the_limit_takes_little_memory(unit: str, tmp_path: Path) -> None:
    a_hundred = len(page(1, UNITS[unit] * 100).encode()) - len(page(1, "").encode())
    text = UNITS[unit] * int((MAX_PAGE - 2000) / (a_hundred / 100)) + "\nTin"
    assert 0.99 * MAX_PAGE < len(page(1, text).encode()) < MAX_PAGE
    assert peak(tmp_path / "large", text) - peak(tmp_path / "small", "Zinn") < _MOST
