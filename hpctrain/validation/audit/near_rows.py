"""Nearly equal rows of a catalogue: rounded numbers, or all but one column equal. n rows, F columns. No torch here.

Each table of keys takes some columns, in units of their scatter, and cuts them into cells at a random offset; nearly
equal rows mostly fall into the same cell. In a large catalogue rows are close by chance, too: how many, follows from
the number of pairs at larger distances, and from how this number grows with the distance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpctrain.samples.hashing import mix64
from hpctrain.samples.split import TEST
from hpctrain.validation.audit.chance import SURE, chance_of
from hpctrain.validation.audit.duplicates import WHY
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, Finding
from hpctrain.validation.audit.ids import id_key
from hpctrain.validation.audit.inputs import Inputs, hash_rows
from hpctrain.validation.audit.rows import Rows
from hpctrain.validation.audit.spill import Spill
from hpctrain.validation.audit.twins import all_twins

NUM_TABLES = 3
KEY_COLUMNS = 5
"""Tables of keys, and columns that the key of each is made of."""

CELLS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Widths of cells that are tried [scatter of the column]."""

WIDE = 0.3
"""Largest distance in each column of a pair that is counted [width of a cell]."""

LEVELS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""Distances below which pairs are called close, if there are more than by chance [width of a cell]."""

FEWEST_DIMENSIONS = 1.5
"""Number of dimensions over which rows are spread at least."""

FEWEST_FOR_ONE_OFF = 6
"""Columns that a table needs so that rows which differ in one of them may be copies."""

LOOK_FIRST = 4
"""Columns that pairs are compared in first."""

FEW_PAIRS = 100_000
"""Number of pairs by chance that need little time and memory in any case."""

FARTHEST = 1e15
"""Number of the last cell, where missing values and absurd ones are."""

MOST_KEPT = 32
"""Columns that are compared."""

MOST_FOR_DIMENSIONS, PAIRS_FOR_DIMENSIONS = 3000, 200
"""Rows, and pairs of them, from which the number of dimensions follows."""


class NearTableRows:
    """Nearly equal rows of a table.

    Parameters
    ----------
    rows : Rows
    sample : Inputs
        Some rows, from which the scatter of the columns and the width of the cells follow.

    Attributes
    ----------
    columns : ndarray of int
        The columns that are compared.
    spills : list of Spill
        One for each of `NUM_TABLES` tables of keys, with records of :func:`record_of`.
    """

    def __init__(self, rows: Rows, sample: Inputs) -> None:
        self._rows = rows
        self.spills: list[Spill] = []
        rng = np.random.default_rng(2)
        values = np.where(sample.weight > 0, sample.values, np.nan).astype(np.float64)
        distinct = np.array([len(np.unique(column[np.isfinite(column)])) for column in values.T])
        self._scale = np.array([_scatter(column[np.isfinite(column)]) for column in values.T])
        fine = np.flatnonzero(distinct >= max(20, 0.05 * len(values)))
        self.is_possible = len(fine) >= 3
        self.columns = np.sort(rng.permutation(fine)[:MOST_KEPT])
        count = len(self.columns)
        num_keys = min(KEY_COLUMNS, max(3, count // 2))
        self._choices = [rng.permutation(count)[:num_keys] for _ in range(NUM_TABLES)]
        self._offsets = rng.random((NUM_TABLES, max(1, count)))
        self.width, self.dimensions, self.quantum = CELLS[0], FEWEST_DIMENSIONS, 0.0
        if self.is_possible:
            scaled = self._scaled(sample)
            self.width = self._choose_width(scaled, len(rows))
            self.dimensions = dimensions_of(scaled, WIDE * self.width)
            self.quantum = max(map(_smallest_step, scaled.T))

    def _scaled(self, inputs: Inputs) -> np.ndarray:
        values = np.where(inputs.weight > 0, inputs.values, np.nan)
        return (values[:, self.columns] / self._scale[self.columns]).astype(np.float32)

    def _choose_width(self, scaled: np.ndarray, num_rows: int) -> float:
        """Return the largest width with which there are few pairs by chance, so that time and memory are bounded."""
        for width in CELLS:
            keys = self._keys(scaled, 0, width)
            _, counts = np.unique(keys, return_counts=True)
            pairs = float((counts * (counts - 1) / 2).sum()) * (num_rows / max(1, len(keys))) ** 2
            if pairs <= max(num_rows / 8, FEW_PAIRS):
                return width
        return CELLS[-1]

    def _keys(self, scaled: np.ndarray, table: int, width: float) -> np.ndarray:
        chosen = self._choices[table]
        cells = scaled[:, chosen].astype(np.float64) / width + self._offsets[table, chosen]
        cells = np.clip(np.where(np.isfinite(cells), cells, -FARTHEST), -FARTHEST, FARTHEST)
        return hash_rows(np.floor(cells).astype(np.int64))

    def add(self, first: int, inputs: Inputs) -> None:
        """Take the inputs of the rows from `first` on."""
        if not self.is_possible:
            return
        side = self._rows.side[first : first + len(inputs)]
        use = np.flatnonzero(side <= TEST)
        scaled = self._scaled(inputs)[use]
        for table, spill in enumerate(self.spills):
            records = np.empty(len(use), spill.dtype)
            records["key"], records["row"] = mix64(self._keys(scaled, table, self.width)), first + use
            records["scaled"] = scaled
            spill.add(records)

    def findings(self, equal: set[int]) -> Iterator[Finding]:
        """Yield what was found, without the held-out rows that have an equal one."""
        if not self.is_possible:
            return
        pairs, apart = self._close_pairs()
        for is_one_off in (False, True) if len(self.columns) >= FEWEST_FOR_ONE_OFF else (False,):
            use = (apart[:, int(is_one_off)] <= WIDE) & ~np.isin(pairs[:, 0], list(equal))
            distance = apart[use, int(is_one_off)]
            level = self._level(distance, self.dimensions - is_one_off)
            if level is None:
                continue
            close = pairs[use][distance <= level]
            held_out = np.unique(close[:, 0])
            how = "in all columns but one" if is_one_off else "in all columns"
            yield Finding(
                LEAK,
                "near-duplicate",
                f"held-out rows with nearly the same numbers as a row on another side: {len(held_out):,} ({how} within "
                f"{level * self.width:.1g} of the scatter)",
                WHY,
                f"remove the copies, or give them one identifier ({id_key(self._rows)})",
                len(held_out),
                examples=[self._rows.pair(*pair) for pair in close[:MOST_EXAMPLES].tolist()],
            )
            equal = equal | set(held_out.tolist())

    def _level(self, apart: np.ndarray, dimensions: float) -> float | None:
        """Return the distance below which there are most certainly more pairs than by chance; None if there is none."""
        found = []
        for level in LEVELS:
            close = int((apart <= level).sum())
            share = (level / WIDE) ** max(FEWEST_DIMENSIONS, dimensions)
            chance = chance_of(close, len(apart) - close, share / (1 - share))
            if level * self.width >= self.quantum and chance < SURE and close > 2 * share * len(apart):
                found.append((chance, level))
        return min(found)[1] if found else None

    def _close_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs that are not further apart than `WIDE` in all columns but one.

        Returns
        -------
        pairs : ndarray, shape (p, 2), int64
            Held-out row, other row.
        apart : ndarray, shape (p, 2)
            Largest distance of all columns, and of all but one [width of a cell].
        """
        found, distances = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2))]
        for spill in self.spills:
            for records in spill.parts():
                side = self._rows.side[records["row"]]
                places = all_twins(records["key"], side)
                for start in range(0, len(places), 1 << 18):
                    block, apart = self._compare(records["scaled"], places[start : start + (1 << 18)])
                    # The held-out row comes first; of two held-out rows that of the test.
                    is_turned = side[block[:, 0]] < side[block[:, 1]]
                    found.append(records["row"][np.where(is_turned[:, None], block[:, ::-1], block)])
                    distances.append(apart)
        pairs, first = np.unique(np.concatenate(found), axis=0, return_index=True)
        return pairs, np.concatenate(distances)[first]

    def _compare(self, scaled: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs of places that are close, and their two distances; a few columns rule most of them out."""
        few = scaled[:, :LOOK_FIRST]
        apart = np.abs(few[places[:, 0]] - few[places[:, 1]])
        places = places[(apart > WIDE * self.width).sum(axis=1) <= 1]
        first, second = scaled[places[:, 0]], scaled[places[:, 1]]
        apart = np.abs(first - second)
        apart[np.isnan(first) & np.isnan(second)] = 0
        apart[np.isnan(apart)] = np.inf
        largest = np.sort(apart, axis=1)[:, :-3:-1] / self.width
        use = largest[:, 1] <= WIDE
        return places[use], largest[use]


def dimensions_of(scaled: np.ndarray, smallest: float) -> float:
    """Return over how many dimensions rows are spread: how the number of pairs grows with their distance [1]_.

    Parameters
    ----------
    scaled : ndarray, shape (n, F)
        Columns in units of their scatter; NaN where a value is missing.
    smallest : float
        Pairs that are closer are left out: they may be copies.

    References
    ----------
    .. [1] Grassberger & Procaccia 1983, "Measuring the strangeness of strange attractors", Physica D 9, 189.
    """
    from scipy.spatial import cKDTree

    filled = np.where(np.isfinite(scaled), scaled, 0)[:MOST_FOR_DIMENSIONS]
    tree = cKDTree(filled)
    radii = smallest * 3.0 ** np.arange(12)
    counts = (tree.count_neighbors(tree, radii, p=np.inf) - len(filled)) / 2
    pairs = np.maximum(counts - counts[0], 0)
    enough = np.flatnonzero(pairs >= PAIRS_FOR_DIMENSIONS)
    if not len(enough) or enough[0] + 1 >= len(radii):
        return FEWEST_DIMENSIONS
    at = enough[0]
    return float(np.log(pairs[at + 1] / pairs[at]) / np.log(3.0))


def _smallest_step(values: np.ndarray) -> float:
    """Return the smallest difference of two different values: what rounding has left."""
    known = np.unique(values[np.isfinite(values)])
    return float(np.diff(known).min(initial=np.inf)) if len(known) > 1 else np.inf


def record_of(num_columns: int) -> np.dtype:
    """Return the type of the records for a table with so many columns that are compared."""
    return np.dtype([("key", np.uint64), ("row", np.int64), ("scaled", np.float32, (num_columns,))])


def _scatter(values: np.ndarray) -> float:
    """Return the robust standard deviation; of long tails, such as those of errors, from 5 to 95 per cent."""
    if not len(values):
        return 1.0
    low, first, last, high = np.quantile(values, [0.05, 0.25, 0.75, 0.95])
    return float(max((last - first) / 1.349, (high - low) / 3.29)) or 1.0
