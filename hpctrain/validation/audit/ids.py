"""Identifiers that are on two sides, or that are no identifiers. N rows. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpctrain.profile.sections.data import BY_OBJECT
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, NOTE, SUSPICION, Finding
from hpctrain.validation.audit.rows import UNUSED, Rows

ID_KEY = "data.columns.target_id"
TABLE_ID_KEY = "data.target_id"

FILL_VALUES = (-9999, -999, -99, -1, 0, 99, 999, 9999, np.iinfo(np.int64).min, np.iinfo(np.int64).max)
"""Identifiers that mostly mean that there is none."""

LARGEST_SHARE = 0.1
"""Share of all rows from which one identifier has too many of them."""

FEWEST_ROWS = 50
"""Number of rows of one identifier, and of rounded identifiers, from which they are called wrong."""


def id_key(rows: Rows) -> str:
    """Return the key of the profile that names the column of the identifier."""
    return TABLE_ID_KEY if rows.is_table else ID_KEY


def find_wrong_ids(rows: Rows) -> Iterator[Finding]:
    """Yield what is wrong with the identifiers of the objects."""
    if rows.data.split.by != BY_OBJECT:  # otherwise the identifier alone decides the side
        yield from _on_two_sides(rows)
    unique, first, counts = np.unique(rows.target_id, return_index=True, return_counts=True)
    yield from _one_for_many(rows, unique, first, counts)
    yield from _rounded(rows, unique)


def _on_two_sides(rows: Rows) -> Iterator[Finding]:
    used = np.flatnonzero(rows.side != UNUSED)
    order = used[np.argsort(rows.target_id[used], kind="stable")]
    same = rows.target_id[order[1:]] == rows.target_id[order[:-1]]
    wrong = np.flatnonzero(same & (rows.side[order[1:]] != rows.side[order[:-1]]))
    if len(wrong):
        objects = np.unique(rows.target_id[order[wrong]])
        yield Finding(
            LEAK,
            "same-id",
            f"objects with rows on two sides of the split: {len(objects):,}",
            "the model is judged on objects that it has been trained on",
            "remove data.split.column or choose one that keeps the rows of an object together",
            len(objects),
            "data.split",
            [rows.pair(order[at + 1], order[at]) for at in wrong[:MOST_EXAMPLES].tolist()],
        )


def _one_for_many(rows: Rows, unique: np.ndarray, first: np.ndarray, counts: np.ndarray) -> Iterator[Finding]:
    is_fill = np.isin(unique, FILL_VALUES) & (counts > 1)
    is_large = (counts > LARGEST_SHARE * len(rows)) & (counts >= FEWEST_ROWS)
    for number in np.flatnonzero(is_fill | is_large)[:MOST_EXAMPLES].tolist():
        count, value = int(counts[number]), int(unique[number])
        others = "which mostly means that there is none" if is_fill[number] else f"{count / len(rows):.0%} of all"
        yield Finding(
            SUSPICION,
            "one-id-for-many",
            f"{count:,} rows have the identifier {value}, {others}",
            "all of them are on one side of the split, whatever they are, and the sides are not those of objects",
            f"name the column that identifies the object in {id_key(rows)}, or fill the missing identifiers",
            count,
            id_key(rows),
            [rows.describe(int(first[number]))],
        )


def _rounded(rows: Rows, unique: np.ndarray) -> Iterator[Finding]:
    for name, kind, bits in (("float32", np.float32, 24), ("float64", np.float64, 53)):
        large = unique[(np.abs(unique.astype(np.float64)) > 2.0**bits)]
        if len(large) < FEWEST_ROWS:
            continue
        step = np.spacing(np.abs(large.astype(np.float64)).astype(kind)).astype(np.float64).astype(np.int64)
        # Identifiers such as those of SDSS spectra end in zero bits too, but then all of them in more than rounding
        # leaves: of rounded ones every second ends in a one at the last bit that is left.
        if (large % step == 0).all() and ((large // step) % 2 != 0).mean() > 0.25:
            yield Finding(
                SUSPICION,
                "rounded-ids",
                f"{len(large):,} identifiers are rounded to {name}: all are multiples of {int(step.min()):,}",
                "neighbouring objects share an identifier, and the same object has another one in a file that kept it",
                f"write the identifiers as 64-bit integers or text ({id_key(rows)})",
                len(large),
                id_key(rows),
                [str(value) for value in large[:MOST_EXAMPLES].tolist()],
            )
            return


def is_numbered(rows: Rows) -> bool:
    """Return whether the identifiers are the numbers of the rows, counted from any number."""
    ids = rows.target_id
    return len(ids) > 1 and bool((np.diff(ids) == 1).all())


def judge_numbers(rows: Rows, repeated: int, has_positions: bool) -> Iterator[Finding]:
    """Yield what follows if the identifiers are numbers of rows.

    Parameters
    ----------
    rows : Rows
    repeated : int
        Rows of which other tests say that another side holds the same object.
    has_positions : bool
        Whether positions on the sky have been compared.
    """
    if not is_numbered(rows):
        return
    if repeated:
        yield Finding(
            LEAK,
            "row-numbers",
            f"the identifiers are numbers of rows ({rows.target_id[0]} to {rows.target_id[-1]}), but objects repeat",
            "rows of one object get different identifiers and fall on different sides of the split",
            f"name the column that identifies the object in {id_key(rows)}",
            repeated,
            id_key(rows),
        )
    elif not has_positions:
        yield Finding(
            NOTE,
            "row-numbers",
            "the identifiers are numbers of rows, and there are no positions: the same object in two rows with "
            "different numbers cannot be recognised",
            change=f"name the column that identifies the object in {id_key(rows)}, or validate.audit.ra and dec",
            key=id_key(rows),
        )
