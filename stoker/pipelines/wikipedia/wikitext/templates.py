"""Templates and parser functions: what a reader of the page sees in their place.

A template that is not known here leaves a GAP: boxes, notes, citations and navigation are no prose, and the pass
that mends gaps takes away the brackets and blanks that stood around it.
"""

import re

from stoker.pipelines.wikipedia.wikitext import numbers
from stoker.pipelines.wikipedia.wikitext.names import SIGNS
from stoker.pipelines.wikipedia.wikitext.renderers import RENDERERS, TemplateCall, of_language
from stoker.pipelines.wikipedia.wikitext.tags import GAP

_GERMAN = re.compile(r"[a-z]{2,3}S")  # {{frS|…}} on German wikis


def render(body: str, language: str) -> str:
    """What a template or parser function shows, from what stands between its braces, arguments rendered already.

    >>> render("convert|330|m|ft", "en"), render("#if: x | yes | no", "en"), render("reflist", "en") == GAP
    ('330 m', 'yes', True)
    """
    name, bar, rest = body.partition("|")
    name = name.strip()
    lower = name.lower().replace("_", " ")
    made = RENDERERS.get(lower)
    if made is not None:
        return made(_call(name, rest.split("|") if bar else [], language)) or GAP
    fixed = SIGNS.get(lower)
    if fixed is not None:
        return fixed
    if lower[:1] == "{":  # {{{parameter|default}}}
        return rest
    if ":" in lower:
        return _function(name, rest.split("|") if bar else [], language) or GAP
    if lower.startswith("lang-") or _GERMAN.fullmatch(name):
        return of_language(_call(name, rest.split("|") if bar else [], language), lower[5:]) or GAP
    return GAP


def _call(name: str, parts: list[str], language: str) -> TemplateCall:
    args: list[str] = []
    named: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            args.append(part)
        elif key.isascii() and key.isdigit() and len(key) < 3:
            args.extend([""] * (int(key) - len(args)))
            if int(key):
                args[int(key) - 1] = value.strip()
        else:
            named[key.lower()] = value.strip()
    return TemplateCall(name, args, named, language)


def _function(name: str, rest: list[str], language: str) -> str:
    function, _, first = name.partition(":")
    function, first = function.lower(), first.replace(GAP, "").strip()
    args = [part.strip() for part in rest]
    known = [*args, "", "", ""]
    match function:
        case "#if":
            return known[0] if first else known[1]
        case "#ifeq":
            return known[1] if first == known[0].replace(GAP, "").strip() else known[2]
        case "#ifexist":
            return known[0]
        case "#iferror":
            return known[1] or first
        case "#switch":
            return _switch(first, args)
        case "lc" | "lcfirst":
            return first.lower() if function == "lc" else first[:1].lower() + first[1:]
        case "uc" | "ucfirst":
            return first.upper() if function == "uc" else first[:1].upper() + first[1:]
        case "formatnum":
            return numbers.grouped(first, language)
    return ""


def _switch(value: str, cases: list[str]) -> str:
    falling, last = False, ""
    for case in cases:
        key, equals, shown = case.partition("=")
        key = key.strip()
        falling = falling or key == value
        if not equals:
            last = key
        elif falling:
            return shown.strip()
        elif key == "#default":
            last = shown.strip()
    return last
