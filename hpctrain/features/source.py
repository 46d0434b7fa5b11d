"""Write tables as one Parquet file with identifiers, times and features, a block of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.features.columns import CREATED, DTYPES, TIME, Feature, features_of, id_column, plain_name
from hpctrain.features.times import UNDATED, form_of, microseconds
from hpctrain.files import NewFile
from hpctrain.ingest.parquet import import_pyarrow
from hpctrain.kinds.catalogue.tables import Table, open_table

_BLOCK_BYTES = 64 << 20
_FIRST_ROWS = 10_000


@dataclass(frozen=True)
class Wanted:
    """What the user asks for.

    Parameters
    ----------
    id : str or None
        Column of the identifiers; None for the usual names.
    columns : sequence of str, or None
        Columns that become features; None for all.
    timestamp : str or None
        Column of times; None for one time of each file.
    time_format : str or None
        One of :data:`hpctrain.features.times.FORMATS`; None for what the column says.
    at : int or None
        Time of all rows [us since 1970] without a column of times; None for the time of change of each file.
    """

    id: str | None = None
    columns: Sequence[str] | None = None
    timestamp: str | None = None
    time_format: str | None = None
    at: int | None = None


@dataclass(frozen=True)
class Written:
    """What a source holds.

    Parameters
    ----------
    join_key : Feature
        The identifier.
    features : list of Feature
    num_rows : int
    num_undated : int
        Rows that were left out because they have no time.
    num_repeated : int
        Rows of an object that has another row of the same time in the same file.
    first, last : int
        Earliest and latest time [us since 1970].
    """

    join_key: Feature
    features: list[Feature]
    num_rows: int
    num_undated: int
    num_repeated: int
    first: int
    last: int


def write_source(files: Sequence[Path], wanted: Wanted, out: Path) -> Written:
    """Write the rows of tables into one Parquet file, whole or not at all.

    Parameters
    ----------
    files : sequence of Path
        Tables in HDF5, FITS, CSV, text or Parquet with the same columns.
    wanted : Wanted
    out : Path

    Raises
    ------
    DataError
        A file cannot be read, differs from the first one, or no row has a time; or pyarrow is not installed.
    ProfileError
        A column is not there.
    """
    parquet = import_pyarrow()
    tables = [open_table(path) for path in files]
    key, features = _layout(tables[0], wanted)
    for table in tables[1:]:
        _refuse_different(table, _layout(table, wanted), tables[0], [key, *features])
    schema = _schema(key, features)
    counts = _Counts()
    with NewFile(out) as new, parquet.ParquetWriter(new.stream, schema, compression="zstd") as writer:
        for table in tables:
            counts.begin_file()
            for block in _blocks(table, key, features, wanted):
                counts.add(block)
                writer.write_table(_arrow(block, schema, [key, *features]))
        if not counts.num_rows:
            raise DataError(f"{', '.join(map(str, files))}: no row has a time, so there is nothing to write")
    counts.end_file()
    return Written(key, features, counts.num_rows, counts.num_undated, counts.num_repeated, counts.first, counts.last)


def _layout(table: Table, wanted: Wanted) -> tuple[Feature, list[Feature]]:
    key = id_column(table, wanted.id)
    (identifier,) = features_of(table, [key], ())
    if identifier.type not in ("Int32", "Int64", "String"):
        raise DataError(f"{table.path}: {key}: holds {identifier.type}; identifiers are whole numbers or texts")
    but = [key] if wanted.timestamp is None else [key, wanted.timestamp]
    return identifier, features_of(table, wanted.columns, but)


def _refuse_different(
    table: Table, layout: tuple[Feature, list[Feature]], first: Table, expected: Sequence[Feature]
) -> None:
    own = {each.name: (each.type, each.size) for each in (layout[0], *layout[1])}
    wrong = []
    for each in expected:
        if each.name not in own:
            wrong.append(f"{each.column} is missing")
        elif own[each.name] != (each.type, each.size):
            wrong.append(f"{each.column} holds {_held(*own[each.name])} instead of {_held(each.type, each.size)}")
    if wrong:
        raise DataError(f"{table.path}: differs from {first.path}: {'; '.join(wrong)}; choose with --columns")


def _held(kind: str, size: int) -> str:
    return f"{size} {kind} per row" if size else kind


class _Counts:
    def __init__(self) -> None:
        self.num_rows = self.num_undated = self.num_repeated = 0
        self.first, self.last = np.iinfo(np.int64).max, UNDATED
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def begin_file(self) -> None:
        self.end_file()

    def add(self, block: dict[str, np.ndarray]) -> None:
        ids, times = block["id"], block[TIME]
        self.num_undated += int(block.pop("undated")[0])
        if not len(times):
            return
        self.num_rows += len(times)
        self.first, self.last = min(self.first, int(times.min())), max(self.last, int(times.max()))
        self._seen.append((ids.astype(np.bytes_) if ids.dtype.kind == "O" else ids, times))

    def end_file(self) -> None:
        if self._seen:
            ids, times = (np.concatenate(parts) for parts in zip(*self._seen, strict=True))
            order = np.lexsort((times, ids))
            same = (ids[order][1:] == ids[order][:-1]) & (times[order][1:] == times[order][:-1])
            self.num_repeated += int(same.sum())
        self._seen = []


def _blocks(table: Table, key: Feature, features: Sequence[Feature], wanted: Wanted) -> Iterator[dict[str, np.ndarray]]:
    """Yield columns by the names of the features, the times, and ``id`` and ``undated`` for the counts."""
    row_bytes = sum(8 * max(1, each.size) for each in features) + 64
    at_once = max(1, table.num_rows if table.part is None else _BLOCK_BYTES // row_bytes)
    changed = os.stat(table.path).st_mtime_ns // 1000
    form = _form(table, wanted)
    for start in range(0, table.num_rows, at_once):
        part = table.between(start, start + at_once)
        if wanted.timestamp is None or form is None:
            times = np.full(part.num_rows, changed if wanted.at is None else wanted.at)
        else:
            times = microseconds(part.column(wanted.timestamp), form)
        is_dated = times != UNDATED
        block = {each.name: part.values(each.column)[is_dated] for each in (key, *features)}
        yield {
            **block,
            "id": block[key.name],
            TIME: times[is_dated],
            CREATED: np.full(int(is_dated.sum()), changed),
            "undated": np.array([int((~is_dated).sum())]),
        }


def _form(table: Table, wanted: Wanted) -> str | None:
    if wanted.timestamp is None:
        return None
    if wanted.timestamp not in table.names:
        raise DataError(f"{table.path}: {wanted.timestamp}: is not in the file; it has {', '.join(table.names)[:300]}")
    values = table.between(0, _FIRST_ROWS).column(wanted.timestamp)
    return wanted.time_format or form_of(values, wanted.timestamp, table.units.get(wanted.timestamp, ""))


def _schema(key: Feature, features: Sequence[Feature]) -> Any:
    import pyarrow as pa

    plain = {
        "Bool": pa.bool_(),
        "Int32": pa.int32(),
        "Int64": pa.int64(),
        "Float32": pa.float32(),
        "Float64": pa.float64(),
        "String": pa.string(),
    }
    fields = [pa.field(key.name, plain[key.type])]
    fields += [pa.field(name, pa.timestamp("us", tz="UTC")) for name in (TIME, CREATED)]
    fields += [pa.field(each.name, pa.list_(plain[each.type]) if each.size else plain[each.type]) for each in features]
    return pa.schema(fields)


def _arrow(block: dict[str, np.ndarray], schema: Any, columns: Sequence[Feature]) -> Any:
    import pyarrow as pa

    arrays = {name: pa.array(block[name], pa.int64()).cast(schema.field(name).type) for name in (TIME, CREATED)}
    for each in columns:
        values = block[each.name]
        if each.type == "String":
            arrays[each.name] = pa.array(values.tolist(), pa.string())
            continue
        flat = pa.array(np.ascontiguousarray(values.astype(DTYPES[each.type])).reshape(-1))
        if each.size:
            offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * each.size)
            flat = pa.ListArray.from_arrays(offsets, flat)
        arrays[each.name] = flat
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def view_name(path: Path) -> str:
    """Return a name for the features of a file: its own, without its endings."""
    return plain_name(path.name.partition(".")[0]).lower()
