"""Templates and parser functions as the text that a reader of the page sees.

A template that is not known here becomes a GAP: infoboxes, footnotes, citations and navigation are no prose.
``lines.close_gaps`` then removes the brackets and spaces around it.
"""

import re

from stoker.pipelines.wikipedia.wikitext import numbers
from stoker.pipelines.wikipedia.wikitext.emphasis import BOUNDARY
from stoker.pipelines.wikipedia.wikitext.names import SIGNS
from stoker.pipelines.wikipedia.wikitext.renderers import RENDERERS, TemplateCall, foreign_word
from stoker.pipelines.wikipedia.wikitext.tags import GAP

_GERMAN_LANGUAGE = re.compile(r"[a-z]{2,3}S")  # a foreign word on German wikis: {{frS|…}}


def render_template(body: str, language: str) -> str:
    """What a template or parser function shows. ``body``: the text between its braces, with its arguments rendered.

    >>> render_template("convert|330|m|ft", "en"), render_template("#if: x | yes | no", "en")
    ('330 m', 'yes')
    >>> render_template("reflist", "en") == GAP
    True
    """
    name, bar, rest = body.partition("|")
    name = name.strip()
    lower = name.lower().replace("_", " ")
    renderer = RENDERERS.get(lower)
    if renderer is not None:
        shown = renderer(_parse_call(name, rest.split("|") if bar else [], language))
        return f"{BOUNDARY}{shown}{BOUNDARY}" if "'" in shown else shown or GAP
    sign = SIGNS.get(lower)
    if sign is not None:
        return sign
    if lower[:1] == "{":  # {{{parameter|default}}}
        return rest
    if ":" in lower:
        return _parser_function(name, rest.split("|") if bar else [], language) or GAP
    if lower.startswith("lang-") or _GERMAN_LANGUAGE.fullmatch(name):
        return foreign_word(_parse_call(name, rest.split("|") if bar else [], language), lower[5:]) or GAP
    return GAP


def _parse_call(name: str, parts: list[str], language: str) -> TemplateCall:
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


def _parser_function(name: str, rest: list[str], language: str) -> str:
    """What {{#if: ...}} and similar functions show; nothing for unknown ones."""
    function, _, first = name.partition(":")
    function, first = function.lower(), first.replace(GAP, "").strip()
    args = [part.strip() for part in rest]
    padded = [*args, "", "", ""]
    match function:
        case "#if":
            return padded[0] if first else padded[1]
        case "#ifeq":
            return padded[1] if first == padded[0].replace(GAP, "").strip() else padded[2]
        case "#ifexist":
            return padded[0]
        case "#iferror":
            return padded[1] or first
        case "#switch":
            return _switch(first, args)
        case "lc" | "lcfirst":
            return first.lower() if function == "lc" else first[:1].lower() + first[1:]
        case "uc" | "ucfirst":
            return first.upper() if function == "uc" else first[:1].upper() + first[1:]
        case "formatnum":
            return numbers.format_number(first, language)
    return ""


def _switch(value: str, cases: list[str]) -> str:
    """The result of the case that equals ``value``; cases without a result fall through to the next that has one."""
    matched, default = False, ""
    for case in cases:
        key, equals, result = case.partition("=")
        key = key.strip()
        matched = matched or key == value
        if not equals:
            default = key
        elif matched:
            return result.strip()
        elif key == "#default":
            default = result.strip()
    return default
