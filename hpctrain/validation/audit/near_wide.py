"""Nearly equal spectra, images and light curves: scaled, re-reduced, with little more noise. n rows. No torch here.

What two objects of one class have in common is smooth, or is the same in all of them. What only a copy shares is the
noise. So keys are made of the fine structure, without what many rows have in common, and a pair counts if its
difference is much smaller than the errors allow for two observations (:mod:`~hpctrain.validation.audit.same_noise`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from hpctrain.samples.hashing import mix64
from hpctrain.samples.split import TEST
from hpctrain.validation.audit.duplicates import RECORD, WHY
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, NOTE, Finding
from hpctrain.validation.audit.ids import id_key
from hpctrain.validation.audit.inputs import Inputs
from hpctrain.validation.audit.rows import Rows
from hpctrain.validation.audit.same_noise import ABSURD, are_copies, same_noise, typical_difference
from hpctrain.validation.audit.spill import Spill
from hpctrain.validation.audit.twins import all_twins

NUM_TABLES = 6
"""Keys of each row."""

FEWEST_BITS, MOST_BITS = 10, 30
"""Signs of projections that a key is made of."""

MOST_NUMBERS = 16384
"""Numbers of a row that are looked at; of more, a random choice."""

COMMON_PARTS = 8
"""Directions in which most rows differ alike, which are taken out."""

CLIP = 3.0
"""Largest value of the fine structure [robust scatter of the row], so that a flipped bit or a line does not decide."""

SMOOTH = 15
"""Numbers over which the fine structure has been averaged out."""

MOST_PAIRS = 20_000
"""Largest number of pairs that are compared; those with most common keys come first."""

PAIRS_AT_ONCE = 64


class NearWideRows:
    """Nearly equal rows of many numbers.

    Parameters
    ----------
    rows : Rows
    spills : sequence of Spill
        One for each key, with records of :data:`~hpctrain.validation.audit.duplicates.RECORD`.
    sample : Inputs
        Some rows, from which follows what many have in common.
    """

    def __init__(self, rows: Rows, spills: list[Spill], sample: Inputs) -> None:
        self._rows, self._spills = rows, spills
        self._bits = int(np.clip(np.ceil(np.log2(max(2, len(rows)))), FEWEST_BITS, MOST_BITS))
        length = sample.values.shape[1]
        rng = np.random.default_rng(3)
        is_long = length > MOST_NUMBERS and sample.slot is None  # light curves differ in length
        self._places = np.sort(rng.permutation(length)[:MOST_NUMBERS]) if is_long else None
        self._common: np.ndarray | None = None
        self._signs = np.zeros((0, 0), np.float32)
        if sample.slot is None:
            count = min(length, MOST_NUMBERS)
            self._signs = rng.choice(np.array([-1, 1], np.float32), (count, len(spills) * self._bits))
            fine = self._fine(sample)
            if len(fine) >= 10 * COMMON_PARTS:
                self._common = np.linalg.svd(fine, full_matrices=False)[2][:COMMON_PARTS].astype(np.float32)

    def add(self, first: int, inputs: Inputs) -> None:
        """Take the inputs of the rows from `first` on."""
        side = self._rows.side[first : first + len(inputs)]
        use = np.flatnonzero((side <= TEST) & inputs.has_content())
        if not len(use):
            return
        keys = self._keys(inputs)[use]
        for table, spill in enumerate(self._spills):
            records = np.empty(len(use), RECORD)
            records["key"], records["row"] = mix64(keys[:, table]), first + use
            spill.add(records)

    def _fine(self, inputs: Inputs) -> np.ndarray:
        """Return the fine structure of each row, shape (n, L), float32, with a norm of 1 or 0."""
        values, weight = inputs.values, inputs.weight
        fine = fine_structure(without_absurd(values), weight)
        if inputs.has_errors:
            with np.errstate(over="ignore"):  # what is infinite is clipped below
                fine = fine * np.sqrt(weight)
        if self._places is not None:
            fine, weight = fine[:, self._places], weight[:, self._places]
        size = np.abs(np.where(weight > 0, fine, np.nan))
        known = (weight > 0).any(axis=1)
        scatter = np.zeros(len(fine), np.float32)
        scatter[known] = 1.4826 * np.nanmedian(size[known], axis=1)
        scatter = np.where(scatter > 0, scatter, 1)[:, None]
        fine = np.clip(fine / scatter, -CLIP, CLIP)
        if self._common is not None:
            fine = fine - (fine @ self._common.T) @ self._common
        norm = np.linalg.norm(fine, axis=1, keepdims=True)
        return (fine / np.where(norm > 0, norm, 1)).astype(np.float32)

    def _keys(self, inputs: Inputs) -> np.ndarray:
        """Return the keys of each row, shape (n, tables), uint64."""
        fine = self._fine(inputs)
        if inputs.slot is None:
            projections = fine @ self._signs
        else:
            projections = _project_slots(fine, inputs.slot, len(self._spills) * self._bits)
        bits = (projections > 0).reshape(len(inputs), len(self._spills), self._bits)
        return bits @ (np.uint64(1) << np.arange(self._bits, dtype=np.uint64))

    def findings(self, equal: set[int]) -> Iterator[Finding]:
        """Yield what was found, without the held-out rows that have an equal one."""
        rows = self._rows
        candidates = self._candidates(equal)
        if len(candidates) > MOST_PAIRS:
            text = f"{len(candidates):,} pairs of rows look alike; the {MOST_PAIRS:,} likest have been compared"
            yield Finding(NOTE, "many-pairs", text, count=len(candidates))
        pairs = np.array(candidates[:MOST_PAIRS], dtype=np.int64).reshape(-1, 2)
        if not len(pairs):
            return
        typical = typical_difference(rows)
        found = [np.zeros((0, 2), np.int64)]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            block = pairs[start : start + PAIRS_AT_ONCE]
            chi2, count = same_noise(rows.read(block[:, 0]), rows.read(block[:, 1]))
            found.append(block[are_copies(chi2, count, typical)])
        twins = np.concatenate(found)
        if not len(twins):
            return
        held_out = np.unique(twins[:, 0])
        yield Finding(
            LEAK,
            "near-duplicate",
            f"held-out rows that differ from a row on another side by much less than the noise: {len(held_out):,}",
            WHY,
            f"remove the copies, or give them one identifier ({id_key(rows)})",
            len(held_out),
            examples=[rows.pair(*pair) for pair in twins[:MOST_EXAMPLES].tolist()],
        )

    def _candidates(self, equal: set[int]) -> list[tuple[int, int]]:
        """Return pairs (held-out row, other row) that share keys; those that share most come first."""
        counted: Counter[tuple[int, int]] = Counter()
        for spill in self._spills:
            for records in spill.parts():
                side = self._rows.side[records["row"]]
                places = all_twins(records["key"], side)
                is_turned = side[places[:, 0]] < side[places[:, 1]]
                pairs = records["row"][np.where(is_turned[:, None], places[:, ::-1], places)]
                counted.update(map(tuple, pairs.tolist()))
        found = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
        return [pair for pair, _ in found if pair[0] not in equal]


def without_absurd(values: np.ndarray) -> np.ndarray:
    """Return values (n, L) of which none is a thousand times the median of its row: a flipped bit spoils every sum."""
    limit = ABSURD * np.median(np.abs(values), axis=1, keepdims=True)
    limit = np.where(limit > 0, limit, np.inf)
    return np.clip(values, -limit, limit)


def fine_structure(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return values (n, L) minus their running mean over known numbers; 0 where `weight` is 0."""
    known = (weight > 0).astype(np.float64)
    window = min(SMOOTH, values.shape[1])
    total = _running_sum(values.astype(np.float64) * known, window)
    count = _running_sum(known, window)
    return np.where(known > 0, values - total / np.maximum(count, 1), 0).astype(np.float32)


def _running_sum(values: np.ndarray, window: int) -> np.ndarray:
    summed = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    at = np.arange(values.shape[1])
    low = np.clip(at - window // 2, 0, None)
    high = np.clip(at + window // 2 + 1, None, values.shape[1])
    return summed[:, high] - summed[:, low]


def _project_slots(fine: np.ndarray, slot: np.ndarray, count: int) -> np.ndarray:
    """Return sums (n, count) of the values with signs that the hash of their slot decides."""
    found = []
    for number in range(-(-count // 64)):
        bits = mix64(mix64(slot) ^ np.uint64(number + 1))
        for start in range(min(64, count - 64 * number)):
            sign = ((bits >> np.uint64(start)) & np.uint64(1)).astype(np.float32) * 2 - 1
            found.append((fine * sign).sum(axis=1))
    return np.stack(found, axis=1)
