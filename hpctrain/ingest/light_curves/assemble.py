"""Put the observations of all files together: sort them, and drop and count what cannot be used. N objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.observations import Observations
from hpctrain.kinds.light_curves.layout import OWN_NAMES, Curves
from hpctrain.samples.target_id import ids_of

OBJECT_ID = "object_id"
"""Column with the identifiers as texts."""

MOST_BANDS = 1000
"""Largest number of bands; a column with more different values is no column of bands."""


@dataclass
class Assembled:
    """Light curves, and what became of the observations.

    Parameters
    ----------
    curves : Curves
    num_read : int
        Observations in the files.
    dropped : Counter of str
        Observations that were left out, by reason.
    empty : int
        Objects without any usable observation, which are left out.
    notes : list of str
    """

    curves: Curves
    num_read: int
    dropped: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    notes: list[str] = field(default_factory=list)


def assemble(
    parts: Sequence[Observations],
    missing: Sequence[float] = (),
    label: Callable[[np.ndarray, list[str]], Mapping[str, np.ndarray]] | None = None,
) -> Assembled:
    """Return light curves of all files.

    Observations of one object in several files make one curve. Points are sorted by time; of points at one time in one
    band only the first stays.

    Parameters
    ----------
    parts : sequence of Observations
    missing : sequence of float
        Numbers that mean "no value", in values and errors.
    label : callable, optional
        Returns columns (N,) for the identifiers (N,), and adds its notes to a list.

    Raises
    ------
    DataError
        The files have different units, or nothing can be used.
    """
    units = sorted({part.unit for part in parts if part.unit})
    if len(units) > 1:
        raise DataError(f"the files hold {' and '.join(units)}; ingest them separately, or give --column value=NAME")
    names = np.array(sorted({name for part in parts for name in part.names}), dtype=object)
    number = {name: index for index, name in enumerate(names.tolist())}
    object_of = np.concatenate([np.array([number[name] for name in part.names])[part.object_of] for part in parts])
    time, value, error = (np.concatenate([getattr(part, key) for part in parts]) for key in ("time", "value", "error"))
    bands, band = np.unique(np.concatenate([part.band for part in parts]).astype(str), return_inverse=True)
    if len(bands) > MOST_BANDS:
        raise DataError(
            f"the column of bands has {len(bands):,} different values, such as {bands[0]}; name another one"
        )
    dropped: Counter[str] = Counter()
    for part in parts:
        dropped.update(part.dropped)
    keep = _usable(time, value, error, bands[band] == "", missing, dropped)
    order = np.flatnonzero(keep)
    order = order[np.lexsort((band[order], time[order], object_of[order]))]
    order = order[_first_of_each(object_of[order], time[order], band[order], dropped)]
    if not len(order):
        raise DataError("no observation can be used: " + ", ".join(f"{count} {why}" for why, count in dropped.items()))
    counts = np.bincount(object_of[order], minlength=len(names))
    there = np.flatnonzero(counts)
    notes: list[str] = []
    columns = _columns(parts, names, notes)
    columns = {name: values[there] for name, values in columns.items()}
    columns |= {} if label is None else label(names[there], notes)
    _refuse_own_names(columns)
    used = np.unique(band[order])
    curves = Curves(
        offsets=np.concatenate([[0], np.cumsum(counts[there])]),
        time=time[order],
        value=value[order],
        error=error[order],
        band=np.searchsorted(used, band[order]),
        bands=[str(name) for name in bands[used]],
        target_id=_target_ids(names[there], notes),
        columns={OBJECT_ID: names[there], **columns},
        unit=units[0] if units else "",
    )
    num_read = len(time) + sum(sum(part.dropped.values()) for part in parts)
    return Assembled(curves, num_read, dropped, len(names) - len(there), notes)


def _usable(
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    no_band: np.ndarray,
    missing: Sequence[float],
    dropped: Counter[str],
) -> np.ndarray:
    """Return which observations can be used, and count the others by their first fault."""
    is_missing = np.isin(value, missing) | np.isin(error, missing)
    with np.errstate(over="ignore"):
        fits = np.isfinite(value.astype(np.float32)) & np.isfinite(error.astype(np.float32))
    faults = {
        "time not finite": ~np.isfinite(time),
        "value or error missing (NaN, empty, or a number of --missing)": is_missing | np.isnan(value) | np.isnan(error),
        "value or error infinite, or too large for float32": ~fits,
        "error not above 0": error.astype(np.float32) <= 0,
        "no band": no_band,
    }
    keep = np.ones(len(time), dtype=bool)
    for why, wrong in faults.items():
        if count := int((keep & wrong).sum()):
            dropped[why] += count
        keep &= ~wrong
    return keep


def _first_of_each(object_of: np.ndarray, time: np.ndarray, band: np.ndarray, dropped: Counter[str]) -> np.ndarray:
    """Return which of the sorted observations are the first of their object, time and band."""
    is_first = np.ones(len(time), dtype=bool)
    is_first[1:] = (np.diff(object_of) != 0) | (np.diff(time) != 0) | (np.diff(band) != 0)
    if count := int((~is_first).sum()):
        dropped["same object, time and band as another point"] += count
    return is_first


def _columns(parts: Sequence[Observations], names: np.ndarray, notes: list[str]) -> dict[str, np.ndarray]:
    """Return what the files say about their objects, for all objects (N,)."""
    number = {name: index for index, name in enumerate(names.tolist())}
    found: dict[str, np.ndarray] = {}
    keys = dict.fromkeys(key for part in parts for key in part.columns)
    for key in keys:
        has_texts = any(part.columns[key].dtype.kind == "O" for part in parts if key in part.columns)
        values = np.full(len(names), "" if has_texts else np.nan, dtype=object if has_texts else float)
        for part in parts:
            if key in part.columns:
                at = [number[name] for name in part.names]
                values[at] = part.columns[key].astype(str) if has_texts else part.columns[key]
        found[key] = values
    return found


def _target_ids(names: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return identifiers as integers: as they are if all are integers, else hashes of the texts."""
    try:
        whole = [int(name) for name in names.tolist()]
        if all(-(2**63) <= value < 2**63 for value in whole) and len(set(whole)) == len(whole):
            return np.array(whole, dtype=np.int64)
    except ValueError:
        pass
    ids, found = ids_of(names, f": {OBJECT_ID}")
    notes += found
    return ids


def _refuse_own_names(columns: Mapping[str, np.ndarray]) -> None:
    taken = sorted({*OWN_NAMES, OBJECT_ID} & columns.keys())
    if taken:
        raise DataError(
            f"a column of the objects is called {', '.join(taken)}, which the file needs for itself; rename it with "
            f"--label OTHER={taken[0]}"
        )
