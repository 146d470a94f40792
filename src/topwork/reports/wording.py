"""Numbers and names as readers see them. Knows nothing about HTML or about where a number comes from."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

__all__ = [
    "bounds",
    "count",
    "duration",
    "number",
    "p_value",
    "percent",
    "percent_bounds",
    "photos",
    "points",
    "shortened",
    "visible",
]

_NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"


def visible(text: str) -> str:
    """Text that any page can carry: what cannot be seen or encoded is spelled out, the rest stays.

    Bytes of odd file names (lone surrogates), control characters, and marks that turn the writing direction become
    backslash escapes, so that no name can hide a part of itself.

    Example:
        >>> visible("caf\\udce9\\n.jpg")
        'caf\\\\xe9\\\\x0a.jpg'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # one byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


def shortened(text: str, length: int) -> str:
    """At most `length` characters; what is cut is cut from the middle.

    Example:
        >>> shortened("a-very-long-name.jpg", 11)
        'a-very….jpg'
    """
    if len(text) <= length:
        return text
    tail = max(1, (length - 1) * 2 // 5)
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; a dash where there is none.

    Example:
        >>> number(0.94321), number(None) == "\\N{EN DASH}"
        ('0.943', True)
    """
    return f"{value:.{digits}f}" if _is_number(value) else _NOTHING


def percent(value: float | None) -> str:
    """A share in [0, 1] as percent with one digit.

    Example:
        >>> percent(0.9432)
        '94.3\\xa0%'
    """
    return f"{value * 100:.1f}\N{NO-BREAK SPACE}%" if value is not None and _is_number(value) else _NOTHING


def bounds(interval: Mapping[str, Any]) -> str:
    """Both ends of an interval, or nothing where they are unknown.

    Example:
        >>> bounds({"value": 0.9, "low": 0.85, "high": 0.93})
        '[0.850, 0.930]'
    """
    low, high = interval.get("low"), interval.get("high")
    return f"[{number(low)}, {number(high)}]" if _is_number(low) and _is_number(high) else ""


def percent_bounds(interval: Mapping[str, Any]) -> str:
    """Both ends of an interval of shares, in words, with n.

    Example:
        >>> percent_bounds({"value": 0.9, "low": 0.85, "high": 0.93, "n": 290})
        '95\\xa0% interval 85.0 to 93.0\\xa0%, n\\xa0=\\xa0290'
    """
    space = "\N{NO-BREAK SPACE}"
    n = f"n{space}={space}{int(interval['n']):,}" if _is_number(interval.get("n")) else ""
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None or not (_is_number(low) and _is_number(high)):
        return n
    ends = f"95{space}% interval {low * 100:.1f} to {high * 100:.1f}{space}%"
    return f"{ends}, {n}" if n else ends


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign.

    Example:
        >>> points(0.0231), points(-0.002) == "\\N{MINUS SIGN}0.2"
        ('+2.3', True)
    """
    return f"{'+' if value >= 0 else _MINUS}{abs(value) * 100:.1f}"


def photos(value: float, *, sign: bool = False) -> str:
    """A number of photos, perhaps a mean over seeds: whole where it is whole, else with one digit.

    Example:
        >>> photos(1234.0), photos(1234.5), photos(3.0, sign=True), photos(-2.0) == "\\N{MINUS SIGN}2"
        ('1,234', '1,234.5', '+3', True)
    """
    value = round(value, 6)  # means of whole numbers are whole but for rounding
    digits = 0 if value == round(value) else 1
    start = _MINUS if value < 0 else "+" if sign else ""
    return f"{start}{abs(value):,.{digits}f}"


def p_value(p: float, *, named: bool = False) -> str:
    """A p value with three digits, or that it is below them; as a statement if it is named.

    Example:
        >>> p_value(0.0123), [p_value(p, named=True).split() for p in (0.0123, 0.0001)]
        ('0.012', [['p', '=', '0.012'], ['p', '<', '0.001']])
    """
    below = p < 0.0005
    sign = "<" if below else "=" if named else ""
    return _SPACE.join(word for word in ("p" if named else "", sign, "0.001" if below else f"{p:.3f}") if word)


def count(n: int, noun: str, *, plural: str | None = None) -> str:
    """A number of things.

    Example:
        >>> count(1, "photo"), count(2895, "photo")
        ('1 photo', '2,895 photos')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """A time span in the units that people use.

    Example:
        >>> duration(0.42), duration(75), duration(3725)
        ('0.4 s', '1 min 15 s', '1 h 02 min')
    """
    if seconds is None or not _is_number(seconds):
        return _NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
