"""Numbers as a person reads them, with units that stay on the number's line."""

from __future__ import annotations

_SPACE = "\N{NO-BREAK SPACE}"


def as_count(value: int) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}"


def as_bases(value: float) -> str:
    """A length in bases: exact below 10 kb, in kb, Mb or Gb from there."""
    if value < 10_000:
        return f"{value:,.0f}{_SPACE}bp"
    for unit in ("kb", "Mb"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f}{_SPACE}{unit}" if value < 99.95 else f"{value:.0f}{_SPACE}{unit}"
    return f"{value / 1000:,.1f}{_SPACE}Gb"


def as_share(part: float, whole: float) -> str:
    """A part of a whole in percent; a dash where there is no whole."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"<{_SPACE}0.1{_SPACE}%"
    return (
        f"{percent:.1f}{_SPACE}%"
        if percent < 99.95 or percent == 100
        else f">{_SPACE}99.9{_SPACE}%"
    )


def as_duration(seconds: float) -> str:
    """A time in the two largest of its units."""
    if seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    for unit, size, smaller, step in (("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return _SPACE.join((f"{whole // size:,}", unit, str(whole % size // step), smaller))
    return f"{whole}{_SPACE}s"
