"""What a user gives a model to read: names of files, arrays, a table, or an open set of samples. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.lookup import data_section_of, find_family
from hpctrain.profile.near import did_you_mean

if TYPE_CHECKING:
    from hpctrain.kinds.kind import Kind
    from hpctrain.profile.sections.data import DataSection
    from hpctrain.samples.protocols import Samples

_MOST_BYTES = 4 * 2**30
"""Largest size of the reconstructions that one call returns [byte]; more is probably a mistake."""


@dataclass(frozen=True)
class Asked:
    """The arguments of a method of a model, as a user gave them.

    Parameters
    ----------
    data : str, Path, sequence of these, mapping, Table, structured array, Samples or None
        The positional argument.
    arrays : mapping
        The arguments by name that are data.
    rows : slice, sequence of int, mask of bool or None
        Samples to use; None means all.
    batch_size : int or None
        Samples that are computed together.
    columns : mapping of str or None
        Name in the files or the table for each name of ours that differs.
    """

    data: Any
    arrays: Mapping[str, Any]
    rows: Any = None
    batch_size: int | None = None
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Given:
    """Data sorted by what they are: exactly one entry is set.

    Parameters
    ----------
    files : list of str, optional
        Names and patterns of files.
    arrays : mapping, optional
        Arrays by the names of the kind's datasets.
    samples : Samples, optional
        An open set.
    """

    files: list[str] | None = None
    arrays: Mapping[str, Any] | None = None
    samples: Samples | None = None


def sort_data(asked: Asked, kind: Kind) -> Given:
    """Return the data among the arguments of a method, sorted by what they are.

    Parameters
    ----------
    asked : Asked
    kind : Kind
        The kind of data that the model reads.

    Raises
    ------
    DataError
        There are no data, or they are of a type that cannot be read.
    """
    data, arrays = asked.data, asked.arrays
    if (data is None) == (not arrays):
        what = "give either data or arrays by name, not both" if arrays else "no data were given"
        raise DataError(f"{what}; {_ways(kind)}")
    if arrays:
        unknown = [name for name in arrays if name not in kind.array_names]
        if unknown and kind.array_names:
            raise DataError(f"'{unknown[0]}' is no argument here{did_you_mean(unknown[0], kind.array_names)}")
        return Given(arrays=arrays)
    if isinstance(data, str | Path):
        return Given(files=[str(data)])
    if isinstance(data, Sequence) and data and all(isinstance(item, str | Path) for item in data):
        return Given(files=[str(item) for item in data])
    if isinstance(data, np.ndarray) and data.dtype.names:
        return Given(arrays=_renamed({name: data[name] for name in data.dtype.names}, asked.columns))
    if hasattr(data, "keys") and hasattr(data, "__getitem__"):
        return Given(arrays=_renamed(data, asked.columns))
    if hasattr(data, "read") and hasattr(data, "target_id") and hasattr(data, "fingerprint"):
        return Given(samples=data)
    raise DataError(f"{type(data).__name__} cannot be read as {kind.words.many}; {_ways(kind)}")


def _ways(kind: Kind) -> str:
    names = ", ".join(f"{name}=..." for name in kind.array_names)
    return "give the names of files" + (f", a table or mapping, or arrays by name: {names}" if names else "")


def _renamed(table: Any, columns: Mapping[str, str] | None) -> Mapping[str, Any]:
    """Return the entries of a table under our names."""
    there = list(table.keys())
    absent = [f"'{theirs}'" for theirs in (columns or {}).values() if theirs not in there]
    if absent:
        raise DataError(f"columns: there is no {', '.join(absent)}; there is {', '.join(map(str, there[:20]))}")
    renamed = {ours: table[theirs] for ours, theirs in (columns or {}).items()}
    return {name: table[name] for name in there if name not in (columns or {}).values()} | renamed


def open_samples(
    given: Given, kind: Kind, card: Mapping[str, Any], section: DataSection | None, columns: Mapping[str, str] | None
) -> Samples:
    """Open data as a set of samples.

    Parameters
    ----------
    given : Given
    kind : Kind
    card : mapping
        Card of the model.
    section : DataSection, optional
        The ``data`` section of the model's run, which says how its files are read.
    columns : mapping of str, optional
        Names of datasets in the files, where they differ from those of the section.

    Raises
    ------
    DataError
        The data cannot be read.
    """
    if given.samples is not None:
        return given.samples
    if given.arrays is not None:
        return kind.from_arrays(card, given.arrays)
    assert given.files is not None
    if section is None:
        base = data_section_of(find_family(card["family"]))(files=given.files)
    else:
        base = section.model_copy(update={"files": given.files})
    return kind.open(_with_columns(base, columns))


def _with_columns(section: DataSection, columns: Mapping[str, str] | None) -> DataSection:
    if not columns:
        return section
    known = getattr(section, "columns", None)
    names = [] if known is None else list(type(known).model_fields)
    for name in columns:
        if name not in names:
            raise DataError(f"columns: '{name}' is no column of these data{did_you_mean(name, names)}")
    return section.model_copy(update={"columns": known.model_copy(update=dict(columns))})


def chosen_rows(rows: Any, num_rows: int) -> np.ndarray:
    """Return the rows that a slice, indices or a mask of bool choose among `num_rows`, shape (n,), int64.

    Raises
    ------
    DataError
        They are out of range, or of another type.
    """
    everything = np.arange(num_rows, dtype=np.int64)
    try:
        return everything if rows is None else np.atleast_1d(everything[rows])
    except (IndexError, TypeError) as error:
        raise DataError(f"rows: {error}; there are {num_rows} rows, numbered from 0") from error


def refuse_too_much(num_bytes: int, num_rows: int) -> None:
    """Raise if what is kept in memory is larger than anybody plots.

    Raises
    ------
    DataError
        It is.
    """
    if num_bytes > _MOST_BYTES:
        raise DataError(
            f"the reconstructions of {num_rows:,} samples take more than {_MOST_BYTES / 2**30:.0f} GiB; choose some: "
            "rows=slice(0, 1000)"
        )
