"""What a rule says about one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a rule says: it is bad, it is well again, or neither.

    Between the limit of an alert and the limit of its end, and where nothing is known, the verdict is neither, and an
    alert stays as it is.

    Parameters
    ----------
    is_bad, is_well : bool
        At most one of them.
    text : str
        What was seen, with numbers, in one line.
    value : float or None
        The number that was judged.
    """

    is_bad: bool = False
    is_well: bool = False
    text: str = ""
    value: float | None = None


UNKNOWN = Verdict()


def bad(text: str, value: float | None = None) -> Verdict:
    """Return the verdict that an alert is due."""
    return Verdict(is_bad=True, text=text, value=value)


def well(text: str, value: float | None = None) -> Verdict:
    """Return the verdict that there is nothing to say, or no longer."""
    return Verdict(is_well=True, text=text, value=value)


def between(text: str = "", value: float | None = None) -> Verdict:
    """Return the verdict that an alert stays as it is."""
    return Verdict(text=text, value=value)
