"""What templates of quantities, numbers and dates show, from their arguments."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

NO_NAMES: Mapping[str, str] = MappingProxyType({})

_NUMBER = re.compile(r"[+\-−±~]?[0-9][0-9.,/ ⁄+e]*")
_RANGE_WORDS = {
    "-": "–", "–": "–", "—": "–", "à": " à ", "a": " a ", "până la": " până la ",
    "to": " to ", "to(-)": " to ", "to about": " to about ", "and": " and ", "and(-)": " and ",
    "or": " or ", "by": " by ", "x": " × ", "×": " × ", "*": " × ", "xx": " × ", "+/-": " ± ", "±": " ± ", "+": " + ",
    ",": ", ", "/": "/", "&": " & ", "and-": " and ",
}  # fmt: skip
_UNITS = {
    "C": "°C", "F": "°F", "R": "°R", "acre": "acres", "cuft": "cu ft", "cuin": "cu in", "cumi": "cu mi",
    "cuyd": "cu yd", "foot": "ft", "inch": "in", "km2": "km²", "km3": "km³", "kph": "km/h", "kg/m3": "kg/m³",
    "m2": "m²", "m3": "m³", "cm2": "cm²", "cm3": "cm³", "mm2": "mm²", "dm3": "dm³", "m/s2": "m/s²", "mile": "miles",
    "/km2": "per km²", "/sqmi": "per sq mi", "sqft": "sq ft", "sqin": "sq in", "sqkm": "km²", "sqm": "m²",
    "sqmi": "sq mi", "sqyd": "sq yd", "U.S.gal": "US gal", "USgal": "US gal", "impgal": "imp gal",
    "nmi": "nautical miles",
    "hectare": "hectares", "pound": "lb", "tonne": "tonnes", "LT": "long tons", "ST": "short tons", "t": "tonnes",
}  # fmt: skip
_POWER = re.compile(r"e([1-9][0-9]?)(?=[^0-9])")
_POWERS = {"3": "thousand", "6": "million", "9": "billion", "12": "trillion", "15": "quadrillion"}
# How the French templates of quantities join a second number that has a name.
_RANGE_NAMES = {
    "à": " à ", "et": " et ", "ou": " ou ", "/": "/", "-": "–", "–": "–", "x": " × ", "×": " × ", "+/-": " ± ",
    "±": " ± ",
}  # fmt: skip
_PLAIN_NUMBER = re.compile(r"[-−+]?[0-9]+(?:\.[0-9]+)?")
_DECIMAL_COMMA = frozenset(("fr", "es", "it", "pt", "de", "nl", "pl", "ru", "uk", "sv", "ca", "ro", "cs", "tr"))
_UNIT_PAIRS = frozenset(
    (("ft", "in"), ("foot", "in"), ("lb", "oz"), ("st", "lb"), ("mi", "yd"), ("mi", "ft"), ("yd", "ft"))
)
_SUPERSCRIPTS = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip


def convert(args: Sequence[str], named: Mapping[str, str] = NO_NAMES, language: str = "en") -> str:
    """The original quantity of {{convert}}, without its conversion.

    >>> convert(["330", "m", "ft"]), convert(["10", "to", "15", "cm", "in"]), convert(["5", "ft", "11", "in", "m"])
    ('330 m', '10 to 15 cm', '5 ft 11 in')
    >>> convert(["5", "e6km2"]), convert(["5", "e6km2"], {"abbr": "on"}), convert(["22", "–", "25", "C", "F"])
    ('5 million km²', '5×10⁶ km²', '22–25 °C')
    """
    args = [arg.strip() for arg in args]
    text, index = args[0] if args else "", 1
    while index + 1 < len(args) and args[index] in _RANGE_WORDS and _NUMBER.fullmatch(args[index + 1]):
        text += _RANGE_WORDS[args[index]] + args[index + 1]
        index += 2
    if index >= len(args):
        return text
    text += _unit(args[index], short=language != "en" or named.get("abbr", "") in ("on", "in"))
    while (
        index + 2 < len(args) and (args[index], args[index + 2]) in _UNIT_PAIRS and _NUMBER.fullmatch(args[index + 1])
    ):
        text += f" {args[index + 1]} {_UNITS.get(args[index + 2], args[index + 2])}"
        index += 2
    return text


def _unit(unit: str, *, short: bool) -> str:
    """A unit of {{convert}} as it stands after a number; ``e6km2`` are millions of them."""
    power = _POWER.match(unit)
    if power is None:
        return " " + _UNITS.get(unit, unit)
    word = _POWERS.get(power[1])
    scale = f"×10{superscript(power[1])}" if short or word is None else f" {word}"
    unit = unit[power.end() :]
    return f"{scale} {_UNITS.get(unit, unit)}"


def quantity(args: Sequence[str], named: Mapping[str, str] = NO_NAMES, language: str = "") -> str:
    """What {{unité}}, {{unidad}} and {{nombre}} show: a number, then units and exponents alternately.

    >>> quantity(["2000", "m"]), quantity(["5", "km", "2"]), quantity(["3", "m", "", "s", "-1"])
    ('2000 m', '5 km²', '3 m s⁻¹')
    >>> quantity(["1.23456", "J"], {"e": "9"}, "fr"), quantity(["1", "km"], {"à": "2.5"}, "fr")
    ('1,23456 × 10⁹ J', '1 à 2,5 km')
    """
    text = _localised(args[0] if args else "", language)
    for name, sign in _RANGE_NAMES.items():
        if named.get(name):
            text += f"{sign}{_localised(named[name], language)}"
    if named.get("e") or named.get("exp"):
        text += f" × 10{superscript(named.get('e') or named['exp'])}"
    units = [arg.strip() for arg in args[1:]] or [named.get("u") or named.get("ul") or named.get("unità", "")]
    while len(units) > 1 and units[0] in _RANGE_WORDS and _NUMBER.fullmatch(units[1]):
        text += _RANGE_WORDS[units[0]] + _localised(units[1], language)
        del units[:2]
    for index, arg in enumerate(units):
        if arg:
            text += superscript(arg) if index % 2 and arg.lstrip("-−+").isdigit() else f" {arg}"
    return text


def _localised(number: str, language: str) -> str:
    """A number of the template with the language's decimal mark and, in French, its groups of thousands."""
    number = number.strip()
    if language not in _DECIMAL_COMMA or not _PLAIN_NUMBER.fullmatch(number):
        return number
    return format_number(number, language) if language == "fr" else number.replace(".", ",")


def number_with_uncertainty(args: Sequence[str], named: dict[str, str]) -> str:
    """What {{val}} shows.

    >>> number_with_uncertainty(["1.5", "0.3"], {"e": "-5", "u": "kg"})
    '1.5±0.3×10⁻⁵ kg'
    """
    text = args[0].strip() if args else ""
    if len(args) == 2 and args[1].strip():
        text += "±" + args[1].strip()
    elif len(args) > 2:
        text += f"+{args[1].strip()}−{args[2].strip()}"
    if named.get("e"):
        text += "×10" + superscript(named["e"])
    unit = named.get("u") or named.get("ul") or named.get("up")
    return f"{named.get('p', '')}{text}{' ' + unit if unit else ''}"


def format_date(args: Sequence[str], named: dict[str, str], language: str) -> str:
    """Year, month and day in English, day first with ``df``; in ISO 8601 on other wikis.

    >>> format_date(["1973", "10", "17"], {"df": "y"}, "en"), format_date(["1973", "10"], {}, "en")
    ('17 October 1973', 'October 1973')
    >>> format_date(["1973", "10", "17"], {}, "en"), format_date(["1973", "10", "17"], {}, "de")
    ('October 17, 1973', '1973-10-17')
    """
    parts = [arg.strip() for arg in args[:3] if arg.strip()]
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        return " ".join(parts)
    year, month = parts[0], int(parts[1])
    if language != "en" or not 1 <= month <= 12:
        return "-".join(part.zfill(2) for part in parts)
    name = _MONTHS[month - 1]
    if len(parts) == 2:
        return f"{name} {year}"
    day = int(parts[2])
    return f"{day} {name} {year}" if named.get("df", "no")[:1].lower() in "y1t" else f"{name} {day}, {year}"


def fraction(args: Sequence[str]) -> str:
    """What {{frac}} shows.

    >>> fraction(["2"]), fraction(["1", "2"]), fraction(["3", "1", "2"])
    ('1/2', '1/2', '3 1/2')
    """
    args = [arg.strip() for arg in args]
    if len(args) >= 3:
        return f"{args[0]} {args[1]}/{args[2]}"
    return "/".join(["1", *args] if len(args) == 1 else args)


def superscript(exponent: str) -> str:
    """An exponent in superscript digits; after a caret if it holds other characters."""
    exponent = exponent.strip()
    return exponent.translate(_SUPERSCRIPTS) if exponent.lstrip("+-−–").isdigit() else f"^{exponent}"


def format_number(number: str, language: str) -> str:
    """What {{formatnum}} shows: the number with the wiki's separators of thousands and decimals.

    >>> [format_number(number, "en") for number in ("12345.678", "1,234", "many")], format_number("12345", "de")
    (['12,345.678', '1,234', 'many'], '12.345')
    """
    whole, point, decimals = number.strip().partition(".")
    sign = "" if whole[:1].isdigit() else whole[:1]
    digits = whole[len(sign) :]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 40):
        return number.strip()
    separator, mark = (",", ".") if language in ("en", "ja", "zh", "simple", "he", "th") else (".", ",")
    if language in ("fr", "ru", "pl", "sv", "cs", "fi", "nb", "no", "uk", "bg"):
        separator = " "
    return sign + f"{int(digits):,}".replace(",", separator) + (mark + decimals if point else "")
