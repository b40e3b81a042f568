"""What templates of quantities, numbers and dates show, from their arguments."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+\-−±~]?[0-9][0-9.,/ ⁄+e]*")
_RANGE_WORDS = {
    "-": "–", "–": "–", "to": " to ", "to(-)": " to ", "to about": " to about ", "and": " and ", "and(-)": " and ",
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
_UNIT_PAIRS = frozenset(
    (("ft", "in"), ("foot", "in"), ("lb", "oz"), ("st", "lb"), ("mi", "yd"), ("mi", "ft"), ("yd", "ft"))
)
_SUPERSCRIPTS = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip


def convert(args: Sequence[str]) -> str:
    """The original quantity of {{convert}}, without its conversion.

    >>> convert(["330", "m", "ft"]), convert(["10", "to", "15", "cm", "in"]), convert(["5", "ft", "11", "in", "m"])
    ('330 m', '10 to 15 cm', '5 ft 11 in')
    """
    args = [arg.strip() for arg in args]
    text, index = args[0] if args else "", 1
    while index + 1 < len(args) and args[index] in _RANGE_WORDS and _NUMBER.fullmatch(args[index + 1]):
        text += _RANGE_WORDS[args[index]] + args[index + 1]
        index += 2
    if index >= len(args):
        return text
    unit = args[index]
    text += " " + _UNITS.get(unit, unit)
    while (
        index + 2 < len(args) and (args[index], args[index + 2]) in _UNIT_PAIRS and _NUMBER.fullmatch(args[index + 1])
    ):
        text += f" {args[index + 1]} {_UNITS.get(args[index + 2], args[index + 2])}"
        index += 2
    return text


def quantity(args: Sequence[str]) -> str:
    """What {{unité}}, {{unidad}} and {{nombre}} show: a number, then units and exponents alternately.

    >>> quantity(["2000", "m"]), quantity(["5", "km", "2"]), quantity(["3", "m", "", "s", "-1"])
    ('2000 m', '5 km²', '3 m s⁻¹')
    """
    text = args[0].strip() if args else ""
    for index, arg in enumerate(args[1:]):
        arg = arg.strip()
        if arg:
            text += superscript(arg) if index % 2 and arg.lstrip("-−+").isdigit() else f" {arg}"
    return text


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
