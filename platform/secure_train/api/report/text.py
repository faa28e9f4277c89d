"""Numbers, times and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_DIGITS, _FIGURE_DIGITS = 3, 4
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: float, digits: int = _DIGITS) -> str:
    """Write a number with few significant digits, without an exponent where that stays short."""
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        return _short_exponent(f"{value:.{digits - 1}e}")
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def figure(value: float) -> str:
    """Write a privacy figure: four significant digits. The job and its statement as JSON have it exactly."""
    return number(value, _FIGURE_DIGITS)


def share(value: float) -> str:
    """Write a share of 1 as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def moment(at: datetime) -> str:
    """Write a time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """Write a span of time in its two largest units."""
    if 0 < seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    minutes, seconds_left = divmod(whole, 60)
    if minutes < 60:
        return _two(minutes, "min", seconds_left, "s")
    hours, minutes_left = divmod(minutes, 60)
    if hours < 24:
        return _two(hours, "h", minutes_left, "min")
    days, hours_left = divmod(hours, 24)
    return _two(days, "d", hours_left, "h")


def size(count: int) -> str:
    """Write a number of bytes with a binary unit."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _short_exponent(written: str) -> str:
    mantissa, exponent = written.split("e")
    short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{short}e{int(exponent)}"


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large} {unit} {small} {part}" if small else f"{large} {unit}"
