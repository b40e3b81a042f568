"""Templates that hold quantities and dates: what they show, from their arguments."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+\-−±~]?[0-9][0-9.,/ ⁄+e]*")
_BETWEEN = {
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
_PAIRS = frozenset((("ft", "in"), ("foot", "in"), ("lb", "oz"), ("st", "lb"), ("mi", "yd"), ("mi", "ft"), ("yd", "ft")))
_RAISED = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip


def convert(args: Sequence[str]) -> str:
    """What {{convert}} shows of the quantity that was measured; the conversion is left to the reader.

    >>> convert(["330", "m", "ft"]), convert(["10", "to", "15", "cm", "in"]), convert(["5", "ft", "11", "in", "m"])
    ('330 m', '10 to 15 cm', '5 ft 11 in')
    """
    args = [arg.strip() for arg in args]
    shown, place = args[0] if args else "", 1
    while place + 1 < len(args) and args[place] in _BETWEEN and _NUMBER.fullmatch(args[place + 1]):
        shown += _BETWEEN[args[place]] + args[place + 1]
        place += 2
    if place >= len(args):
        return shown
    unit = args[place]
    shown += " " + _UNITS.get(unit, unit)
    while place + 2 < len(args) and (args[place], args[place + 2]) in _PAIRS and _NUMBER.fullmatch(args[place + 1]):
        shown += f" {args[place + 1]} {_UNITS.get(args[place + 2], args[place + 2])}"
        place += 2
    return shown


def quantity(args: Sequence[str]) -> str:
    """A number and its unit as {{unité}}, {{unidad}} and {{nombre}} show them: units with exponents in turn.

    >>> quantity(["2000", "m"]), quantity(["5", "km", "2"]), quantity(["3", "m", "", "s", "-1"])
    ('2000 m', '5 km²', '3 m s⁻¹')
    """
    shown = args[0].strip() if args else ""
    for place, arg in enumerate(args[1:]):
        arg = arg.strip()
        if arg:
            shown += raised(arg) if place % 2 and arg.lstrip("-−+").isdigit() else f" {arg}"
    return shown


def value(args: Sequence[str], named: dict[str, str]) -> str:
    """What {{val}} shows.

    >>> value(["1.5", "0.3"], {"e": "-5", "u": "kg"})
    '1.5±0.3×10⁻⁵ kg'
    """
    shown = args[0].strip() if args else ""
    if len(args) == 2 and args[1].strip():
        shown += "±" + args[1].strip()
    elif len(args) > 2:
        shown += f"+{args[1].strip()}−{args[2].strip()}"
    if named.get("e"):
        shown += "×10" + raised(named["e"])
    unit = named.get("u") or named.get("ul") or named.get("up")
    return f"{named.get('p', '')}{shown}{' ' + unit if unit else ''}"


def date(args: Sequence[str], named: dict[str, str], language: str) -> str:
    """Year, month, day as people write them.

    >>> date(["1973", "10", "17"], {"df": "y"}, "en"), date(["1973", "10", "17"], {}, "en")
    ('17 October 1973', 'October 17, 1973')
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


def raised(exponent: str) -> str:
    """An exponent in superior figures; behind a caret if it holds more than figures."""
    exponent = exponent.strip()
    return exponent.translate(_RAISED) if exponent.lstrip("+-−–").isdigit() else f"^{exponent}"


def grouped(number: str, language: str) -> str:
    """What {{formatnum}} shows.

    >>> grouped("12345.678", "en"), grouped("12345", "de"), grouped("1,234", "en"), grouped("many", "en")
    ('12,345.678', '12.345', '1,234', 'many')
    """
    whole, point, rest = number.strip().partition(".")
    sign = "" if whole[:1].isdigit() else whole[:1]
    figures = whole[len(sign) :]
    if not (figures.isascii() and figures.isdigit() and len(figures) < 40):
        return number.strip()
    separator, mark = (",", ".") if language in ("en", "ja", "zh", "simple", "he", "th") else (".", ",")
    if language in ("fr", "ru", "pl", "sv", "cs", "fi", "nb", "no", "uk", "bg"):
        separator = " "
    return sign + f"{int(figures):,}".replace(",", separator) + (mark + rest if point else "")
