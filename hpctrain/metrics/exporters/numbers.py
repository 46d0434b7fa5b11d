"""The numbers of a record that a tracker draws as curves, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

NO_CURVES = frozenset({"kind", "step", "time", "attempt", "event", "nonfinite", "seconds", "samples_seen"})


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a ``train``, ``eval`` or ``monitor`` record by name, such as ``train/loss``.

    Parameters
    ----------
    record : mapping
        One record of ``metrics.jsonl``. Text, switches and null (a number that was not finite) are left out.
    """
    return {
        f"{record['kind']}/{name}": value
        for name, value in record.items()
        if name not in NO_CURVES and isinstance(value, Real) and not isinstance(value, bool)
    }
