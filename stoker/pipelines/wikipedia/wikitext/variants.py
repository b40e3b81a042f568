"""The marks of language variants, ``-{zh-hans:计算机; zh-hant:電腦}-``, on wikis whose software converts variants."""

import re
from functools import cache

_MAX_DEPTH = 10  # of nested marks, as in MediaWiki
_MARK = re.compile(r"-\{([^{}]*+)\}-")
_ENTITY = re.compile(r"(&[#a-zA-Z0-9]{1,32});")
_HIDDEN_SEMICOLON = "\x05"
# Languages that MediaWiki has a converter for, their variants, and for each variant those that stand in for it. The
# first variant is what a reader without a preference sees.
# Source: MediaWiki 1.39, includes/language/LanguageConverterFactory.php and includes/language/converters/*.php
# (getLanguageVariants, getVariantsFallbacks); mni, sh, wuu and zgh came with later releases.
_FALLBACKS: dict[str, dict[str, str]] = {
    "ban": {"ban": "", "ban-bali": "ban", "ban-x-dharma": "ban", "ban-x-palmleaf": "ban", "ban-x-pku": "ban"},
    "crh": {"crh": "crh-latn", "crh-cyrl": "crh-latn", "crh-latn": "crh-cyrl"},
    "gan": {"gan": "gan-hans gan-hant", "gan-hans": "gan", "gan-hant": "gan"},
    "iu": {"iu": "ike-cans", "ike-cans": "iu", "ike-latn": "iu"},
    "kk": {
        "kk": "kk-cyrl", "kk-cyrl": "kk", "kk-latn": "kk", "kk-arab": "kk", "kk-kz": "kk-cyrl", "kk-tr": "kk-latn",
        "kk-cn": "kk-arab",
    },
    "ku": {"ku": "ku-latn", "ku-arab": "ku-latn", "ku-latn": "ku-arab"},
    "mni": {"mni": "", "mni-beng": "mni"},
    "sh": {"sh-latn": "sh-cyrl", "sh-cyrl": "sh-latn"},
    "shi": {"shi": "shi-latn shi-tfng", "shi-tfng": "shi", "shi-latn": "shi"},
    "sr": {"sr": "sr-ec", "sr-ec": "sr", "sr-el": "sr"},
    "tg": {"tg": "", "tg-latn": ""},
    "tly": {"tly": "", "tly-cyrl": "tly"},
    "uz": {"uz": "uz-latn", "uz-latn": "uz", "uz-cyrl": "uz"},
    "wuu": {"wuu": "wuu-hans wuu-hant", "wuu-hans": "wuu", "wuu-hant": "wuu"},
    "zgh": {"zgh": "", "zgh-latn": "zgh"},
    "zh": {
        "zh": "zh-hans zh-hant zh-cn zh-tw zh-hk zh-sg zh-mo zh-my", "zh-hans": "zh-cn zh-sg zh-my",
        "zh-hant": "zh-tw zh-hk zh-mo", "zh-cn": "zh-hans zh-sg zh-my", "zh-sg": "zh-my zh-hans zh-cn",
        "zh-my": "zh-sg zh-hans zh-cn", "zh-tw": "zh-hant zh-hk zh-mo", "zh-hk": "zh-mo zh-hant zh-tw",
        "zh-mo": "zh-hk zh-hant zh-tw",
    },
}  # fmt: skip
_LANGUAGES = {variant: language for language, variants in _FALLBACKS.items() for variant in variants}
# Other spellings of variants that pages use: BCP 47, and the words for the flags on Serbian wikis.
_ALIASES = {
    "sr-cyrl": "sr-ec", "sr-latn": "sr-el", "zh-hans-cn": "zh-cn", "zh-hant-tw": "zh-tw", "zh-hant-hk": "zh-hk",
    "zh-hans-sg": "zh-sg", "zh-hant-mo": "zh-mo", "zh-hans-my": "zh-my",
}  # fmt: skip
_FLAGS = {"A", "T", "R", "D", "-", "H", "N"}


def variants_of(language: str) -> tuple[str, ...]:
    """The variants of a language that pages mark; none if its wikis do not convert variants.

    >>> variants_of("sr"), variants_of("en")
    (('sr', 'sr-ec', 'sr-el'), ())
    """
    return tuple(_FALLBACKS.get(_LANGUAGES.get(language, language), ()))


def variant_named(name: str) -> str:
    """The variant with a name, also in BCP 47; empty if there is none.

    >>> variant_named("zh-Hant"), variant_named("sr-Latn"), variant_named("klingon")
    ('zh-hant', 'sr-el', '')
    """
    name = _ALIASES.get(name.strip().lower(), name.strip().lower())
    return name if name in _LANGUAGES else ""


def choose_variants(text: str, variant: str) -> str:
    """The text with each mark replaced by what a reader of ``variant`` sees.

    >>> choose_variants("用-{zh-hans:计算机; zh-hant:電腦;}-写-{R|诗}-。-{H|zh-cn:a;zh-tw:b}-", "zh-tw")
    '用電腦写诗。'
    """
    for _ in range(_MAX_DEPTH):
        text, marks = _MARK.subn(lambda match: _shown(match[1], variant), text)
        if not marks or "-{" not in text:
            break
    return text


def _shown(body: str, variant: str) -> str:
    """What one mark shows. ``body``: the text between its braces. The rules are those of MediaWiki's ConverterRule."""
    language = _LANGUAGES[variant]
    flags, bar, rules = body.partition("|")
    if not bar or "[" in flags:  # the bar is a link's
        flags, rules = "", body
    names = {name for name in (flag.strip() for flag in flags.split(";")) if name}
    known = names & _FLAGS
    if "R" in known or (not known and any(variant_named(name) for name in names)):  # -{zh-hans;zh-hant|text}-
        return rules
    if "N" in known:
        return ""
    forms = _forms(rules, language)
    if "-" in known or "H" in known or known == {"T"}:
        return ""
    return _form_of(forms, language, variant) if forms else rules


def _forms(rules: str, language: str) -> dict[str, str]:
    """The form for each variant in ``a:x; b:y`` and ``x => a:y``; nothing if the rules are not of that form."""
    forms: dict[str, str] = {}
    one_way: dict[str, str] = {}
    hidden = _ENTITY.sub(rf"\1{_HIDDEN_SEMICOLON}", rules) if "&" in rules else rules
    for choice in _separator(language).split(hidden):
        names, colon, form = choice.replace(_HIDDEN_SEMICOLON, ";").partition(":")
        if not colon:
            continue
        _, arrow, target = names.partition("=>")
        name = variant_named(target if arrow else names)
        if _LANGUAGES.get(name) != language:
            return {}
        if form.strip():
            (one_way if arrow else forms).setdefault(name, form.strip())
    return one_way | forms


def _form_of(forms: dict[str, str], language: str, variant: str) -> str:
    for candidate in (variant, *_FALLBACKS[language][variant].split()):
        if candidate in forms:
            return forms[candidate]
    return next(iter(forms.values()))  # MediaWiki shows an error here; the word is worth more


@cache
def _separator(language: str) -> re.Pattern[str]:
    """A semicolon ends a form only where the next one begins, so that a form may hold one."""
    names = "|".join(
        [*_FALLBACKS[language], *(alias for alias, name in _ALIASES.items() if _LANGUAGES[name] == language)]
    )
    return re.compile(rf";\s*+(?=(?:[^;=]*+=>\s*+)?(?:{names})\s*+:|$)", re.IGNORECASE)
