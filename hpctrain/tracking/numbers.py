"""Sets of whole numbers as short texts, such as ``0-57,59``."""

from __future__ import annotations

from collections.abc import Iterable


def ranges_of(numbers: Iterable[int]) -> str:
    """Return numbers as ranges, such as ``0-57,59``; empty for none."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)


def read_ranges(text: str) -> set[int]:
    """Return the numbers of a text that :func:`ranges_of` wrote; none for anything else."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            return set()
        found |= set(range(int(first), int(last or first) + 1))
    return found
