"""64-bit codes of values and rows: equal values have equal codes. n rows.

Two different values share a code with a chance of 2^-64, so among ten million rows one false pair is expected once in
400,000 files.
"""

from __future__ import annotations

import numpy as np

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def mixed(codes: np.ndarray) -> np.ndarray:
    """Return codes whose bits are spread evenly.

    Parameters
    ----------
    codes : ndarray, shape (n,), uint64

    Returns
    -------
    ndarray, shape (n,), uint64

    References
    ----------
    .. [1] Steele, Lea and Flood 2014, OOPSLA, p. 453 (the finaliser of SplitMix64).
    """
    out = codes + _ODD
    out ^= out >> np.uint64(30)
    out *= _MIX[0]
    out ^= out >> np.uint64(27)
    out *= _MIX[1]
    out ^= out >> np.uint64(31)
    return out


def codes_of(values: np.ndarray) -> np.ndarray:
    """Return a code of each value, shape (n,), uint64; all NaN have one code.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Numbers, or texts as bytes (dtype ``S``).
    """
    if values.dtype.kind == "S":
        return _of_texts(values)
    if values.dtype.kind == "f":
        numbers = values.astype(np.float64) + 0.0  # -0.0 becomes 0.0
        numbers[np.isnan(numbers)] = np.nan
        return mixed(numbers.view(np.uint64))
    if len(values) and int(values.min()) > -(2**53) and int(values.max()) < 2**53:
        return codes_of(values.astype(np.float64))  # the same number has one code, whether it is whole or not
    return mixed(values.astype(np.uint64))


def _of_texts(values: np.ndarray) -> np.ndarray:
    width = max(8, -(-values.dtype.itemsize // 8) * 8)
    words = np.ascontiguousarray(values.astype(f"S{width}")).view(np.uint64).reshape(len(values), width // 8)
    out = np.zeros(len(values), dtype=np.uint64)
    for place in range(words.shape[1]):
        next_word = mixed(out ^ words[:, place])
        out = next_word if place == 0 else np.where(words[:, place], next_word, out)
    return out


def add_column(rows: np.ndarray, name: str, column: np.ndarray) -> None:
    """Add the codes (n,) of a column to those of the rows (n,), in place; the order of columns does not matter."""
    rows += mixed(column ^ _of_texts(np.array([name.encode()]))[0])


def texts_of(values: np.ndarray) -> np.ndarray:
    """Return texts as bytes without blanks around them, dtype ``S``; None becomes an empty text."""
    if values.dtype.kind == "S":
        return np.char.strip(values)
    if values.dtype.kind == "U":
        return np.char.encode(np.char.strip(values), "utf-8")
    found = [b"" if value is None or value != value else _bytes(value) for value in values.tolist()]
    return np.array(found, dtype="S") if found else np.empty(0, "S1")


def _bytes(value: object) -> bytes:
    return (value if isinstance(value, bytes) else str(value).encode()).strip()
