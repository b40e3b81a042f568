"""Templates and parser functions as the text that a reader of the page sees.

A template that is not known here becomes a GAP: infoboxes, footnotes, citations and navigation are no prose.
``lines.strip_lines`` then removes the brackets and spaces around it.
"""

import re

from stoker.pipelines.wikipedia.wikitext import numbers
from stoker.pipelines.wikipedia.wikitext.emphasis import BOUNDARY
from stoker.pipelines.wikipedia.wikitext.names import SIGNS
from stoker.pipelines.wikipedia.wikitext.renderers import TemplateCall, foreign_word
from stoker.pipelines.wikipedia.wikitext.roles import by_prefix, citations_of, cited_work, dropped_in, renderers_of
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
    renderer = renderers_of(language).get(lower)
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
    if bar and (renderer := by_prefix(lower)) is not None:
        return renderer(_parse_call(name, rest.split("|"), language)) or GAP
    return GAP


def render_list_item(body: str, language: str) -> str:
    """What a template that begins a list item shows where ``render_template`` shows nothing.

    Of a cited work author, year, title and publisher; of a template that is not known its title, or its last argument
    by position that reads like text.

    >>> render_list_item("cite book|last=Lee|first=Ann|year=1999|title=Tin|isbn=1", "en")
    'Lee, Ann (1999). Tin'
    >>> render_list_item("encyclopedia|tin-metal|Tin the Metal", "en"), render_list_item("main|Tin", "en") == GAP
    ('Tin the Metal', True)
    """
    name, _, rest = body.partition("|")
    name = normalise_name(name)
    if name in dropped_in(language):
        return GAP
    call = _parse_call(name, rest.split("|"), language)
    if name in citations_of(language):
        return cited_work(call) or GAP
    texts = [call.named.get("title", ""), call.named.get("name", ""), *reversed(call.args)]
    return next((text.strip() for text in texts if _reads_like_text(text.strip())), GAP)


def _reads_like_text(argument: str) -> bool:
    """Whether an argument is text, not an identifier, a path, a size or a colour."""
    if not argument or _IDENTIFIER.search(argument):
        return False
    return " " in argument or argument[0].isupper() or not argument[0].isascii()


_IDENTIFIER = re.compile(r"[/=#<>|\x02]|\w\d|\d\w|^[\W\d]*$")


def normalise_name(name: str) -> str:
    """The name of a template as tables have it: lower case, spaces for underscores."""
    return " ".join(name.replace("_", " ").lower().split())


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
