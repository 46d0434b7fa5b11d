"""Which rows of large tables are read: a sample by the hash of the identifier. N rows of all tables, M chosen ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.catalogue.tables import ROWS_AT_ONCE, Table
from hpctrain.samples.hashing import hash_ids
from hpctrain.samples.target_id import ids_of

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.section import CatalogueSection

DEFAULT_ID = "target_id"


def has_ids(tables: Sequence[Table], data: CatalogueSection) -> bool:
    """Return whether a column identifies the objects; otherwise the number of the row does."""
    return data.target_id is not None or all(DEFAULT_ID in table.names for table in tables)


def sampled(tables: list[Table], data: CatalogueSection) -> tuple[list[Table], list[str]]:
    """Return the tables with at most ``data.max_rows`` rows in all, and a note if some are left out.

    The rows with the smallest hashes are chosen, so the sample depends on nothing but identifiers and
    ``data.split.salt``, and a larger one holds all rows of a smaller one. Blocks of identifiers are in memory one after
    the other.
    """
    total = sum(table.num_rows for table in tables)
    if data.max_rows is None or total <= data.max_rows:
        return tables, []
    smallest, chosen = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    for start, ids in _blocks_of_ids(tables, data):
        places = np.concatenate([smallest, hash_ids(ids, data.split.salt + "/rows")])
        rows = np.concatenate([chosen, start + np.arange(len(ids))])
        kept = np.sort(np.argsort(places, kind="stable")[: data.max_rows])
        smallest, chosen = places[kept], rows[kept]
    found, start = [], 0
    for table in tables:
        own = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, start + table.num_rows)]
        found.append(table.only(own - start))
        start += table.num_rows
    note = f"{data.max_rows:,} of {total:,} rows are read, chosen by the hash of the identifier (data.max_rows)"
    return found, [note]


def _blocks_of_ids(tables: Sequence[Table], data: CatalogueSection) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number of a first row, counted over all tables, and the identifiers from there on."""
    first, by_column = 0, has_ids(tables, data)
    for table in tables:
        step = table.num_rows if table.part is None else ROWS_AT_ONCE
        for start in range(0, table.num_rows, max(1, step)):
            block = table.between(start, start + step)
            if by_column:
                name = data.target_id or DEFAULT_ID
                yield first + start, ids_of(block.column(name), f"{table.path}: {name}")[0]
            else:
                yield first + start, first + start + np.arange(block.num_rows)
        first += table.num_rows
