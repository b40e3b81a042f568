"""The share of the arguments of inline templates that stay in the text, by wiki, and which templates lose theirs.

    python tests/benchmarks/measure_templates.py FILE... [--lost 20]

FILE: a dump (.xml, .xml.bz2), or pages as lines of JSON with "wiki" and "wikitext", as in ``gold.jsonl``.

Counted are templates inside a line of prose or a list item that hold no other template and have an argument by position
with a letter or digit. Not counted: notes, citations, icons and what else shows nothing in the text (roles ``dropped``
and ``citation`` in ``roles.toml``), and tables. Arguments stay if the template leaves text at all.
"""

import argparse
import bz2
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from stoker.pipelines.wikipedia.site import read_siteinfo
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text
from stoker.pipelines.wikipedia.wikitext.roles import citations_of, dropped_in
from stoker.pipelines.wikipedia.wikitext.tags import strip_tags
from stoker.pipelines.wikipedia.wikitext.templates import normalise_name

_TEMPLATE = re.compile(r"\{\{([^{}|]+)\|([^{}]*)\}\}")
_WORD = re.compile(r"[^\W_]+")
_NOT_SHOWN = re.compile(r"^(?:infobox|navbox|cite|#|subst:|template:)|\b(?:infobox|navbox)$")


def read_pages(path: Path) -> Iterator[tuple[str, str, WikiLocale]]:
    """The wiki, the wikitext and the locale of each page of a file."""
    if path.suffix == ".jsonl":
        for line in path.read_text("utf-8").splitlines():
            case = json.loads(line)
            wiki = case.get("wiki") or case["lang"]
            yield wiki, case["wikitext"], WikiLocale.of(wiki)
        return
    export = bz2.decompress(path.read_bytes()) if path.suffix == ".bz2" else path.read_bytes()
    site = read_siteinfo(export, path.name)
    for text in re.findall(r"<text[^>]*>(.*?)</text>", export.decode("utf-8", "replace"), re.DOTALL):
        yield site.language or site.wiki, html.unescape(text), site.locale()


def inline_templates(wikitext: str, language: str) -> Iterator[tuple[str, str]]:
    """Name and wikitext of each inline template."""
    hidden = dropped_in(language) | citations_of(language)
    for line in strip_tags(wikitext).split("\n"):
        if line.lstrip()[:1] in ("|", "!", "{", "}", ""):
            continue
        for match in _TEMPLATE.finditer(line):
            name = normalise_name(match[1])
            has_text = any("=" not in part and _WORD.search(part) for part in match[2].split("|"))
            alone = not _WORD.search(line[: match.start()] + line[match.end() :])
            if has_text and not alone and name not in hidden and not _NOT_SHOWN.search(name):
                yield name, match[0]


def measure(files: Iterable[Path]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many inline templates each wiki has, how many keep their text, and the names of those that lose it."""
    found: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for path in files:
        for wiki, wikitext, locale in read_pages(path):
            for name, template in inline_templates(wikitext, locale.language):
                found[wiki] += 1
                stays = plain_text(f"A {template} B", locale) != "A B"
                kept[wiki] += stays
                lost[f"{wiki} {name}"] += not stays
    return found, kept, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--lost", type=int, default=20, help="how many names of templates that lose theirs are shown")
    options = parser.parse_args()
    found, kept, lost = measure(options.files)
    print("| wiki | kept | of | share |\n|---|---:|---:|---:|")
    for wiki in sorted(found, key=lambda wiki: (-found[wiki], wiki)):
        print(f"| {wiki} | {kept[wiki]} | {found[wiki]} | {kept[wiki] / found[wiki]:.1%} |")
    for name, count in lost.most_common(options.lost):
        if count:
            print(f"{count:6} {name}")


if __name__ == "__main__":
    main()
