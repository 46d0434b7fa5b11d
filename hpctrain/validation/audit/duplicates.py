"""The same numbers in rows on two sides of the split, and nearly the same ones. N rows. No torch here.

The files are read once. Equal rows have equal hashes. For nearly equal rows each row gets keys that nearly equal rows
share with a high probability (locality-sensitive hashing), and the pairs with a common key are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from hpctrain.samples.hashing import mix64
from hpctrain.samples.split import TEST, TRAIN
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, NOTE, Finding
from hpctrain.validation.audit.ids import id_key
from hpctrain.validation.audit.inputs import Inputs, hash_rows
from hpctrain.validation.audit.rows import Rows
from hpctrain.validation.audit.spill import Spill
from hpctrain.validation.audit.twins import held_out_twins

RECORD = np.dtype([("key", np.uint64), ("row", np.int64)])

FEWEST_COLUMNS = 3
"""Columns that a table needs, so that equal rows mean equal objects."""

WHY = "the model is judged on samples that it has been trained on"


class NearTwins(Protocol):
    """Finds nearly equal rows; it sees all blocks first."""

    def add(self, first: int, inputs: Inputs) -> None:
        """Take the inputs of the rows from `first` on."""

    def findings(self, equal: set[int]) -> Iterator[Finding]:
        """Yield what was found, without the held-out rows that have an equal one."""


class EqualRows:
    """Rows whose inputs are equal.

    Parameters
    ----------
    rows : Rows
    equal, part : Spill
        Records of the hashes of all numbers, and for a table of those of two thirds of its columns.

    Attributes
    ----------
    num_alike : int
        Rows on any side that hold no two different values, which are not compared.
    """

    def __init__(self, rows: Rows, equal: Spill, part: Spill) -> None:
        self._rows, self._equal, self._part = rows, equal, part
        self.num_alike = 0
        count = len(rows.names)
        self._columns = np.random.default_rng(1).permutation(count)[: -(-2 * count // 3)] if rows.is_table else None

    def add(self, first: int, inputs: Inputs) -> None:
        """Take the inputs of the rows from `first` on."""
        side = self._rows.side[first : first + len(inputs)]
        has_content = inputs.has_content()
        self.num_alike += int((~has_content & (side <= TEST)).sum())
        use = np.flatnonzero(has_content & (side <= TEST))
        self._equal.add(_records(inputs.hashes()[use], first + use))
        if self._columns is not None:
            self._part.add(_records(hash_rows(inputs.values[np.ix_(use, self._columns)]), first + use))

    def twins(self) -> tuple[np.ndarray, int]:
        """Return held-out rows with an equal one (p, 2), and how many are equal in two thirds of the columns."""
        found, num_part = [np.zeros((0, 2), dtype=np.int64)], 0
        for records in self._equal.parts():
            found.append(held_out_twins(records["key"], records["row"], self._rows.side[records["row"]]))
        for records in self._part.parts():
            num_part += len(held_out_twins(records["key"], records["row"], self._rows.side[records["row"]]))
        return np.concatenate(found), num_part

    def findings(self, twins: np.ndarray, num_part: int) -> Iterator[Finding]:
        """Yield findings for what :meth:`twins` returned."""
        rows = self._rows
        if self.num_alike:
            text = f"{self.num_alike:,} rows hold no two different values, and have not been compared"
            yield Finding(NOTE, "no-content", text, count=self.num_alike)
        if rows.is_table and len(rows.names) < FEWEST_COLUMNS:
            text = f"rows of {len(rows.names)} columns are too short to tell copies from chance"
            yield Finding(NOTE, "few-columns", text, key="data.features")
            return
        if not len(twins):
            return
        if num_part > 2 * len(twins):
            text = (
                f"{len(twins):,} held-out rows are equal to one on another side, but {num_part:,} are in two thirds of "
                "the columns: the numbers are too coarse to tell copies from chance"
            )
            yield Finding(NOTE, "coarse-columns", text, count=len(twins), key="data.features")
            return
        held_out = int((rows.side[twins[:, 0]] != TRAIN).sum())
        share = held_out / max(1, int(((rows.side != TRAIN) & (rows.side <= TEST)).sum()))
        yield Finding(
            LEAK,
            "duplicate",
            f"held-out rows with the same numbers as a row on another side: {len(twins):,} ({share:.2g} of all)",
            WHY,
            f"remove the copies, or give them one identifier ({id_key(rows)})",
            len(twins),
            examples=[rows.pair(*pair) for pair in twins[:MOST_EXAMPLES].tolist()],
            values={"share_of_held_out": share},
        )


def _records(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    found = np.empty(len(rows), RECORD)
    found["key"], found["row"] = mix64(keys), rows
    return found
