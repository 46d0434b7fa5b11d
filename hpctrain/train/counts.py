"""Count bad values and samples without weight with the sums of each step; the kind of data names the counts."""

from __future__ import annotations

from collections.abc import Mapping

from hpctrain.kinds.kind import Kind


def num_bad(kind: Kind, sums: Mapping[str, float]) -> float:
    """Return the number of bad values among sums; 0 for a kind that counts none."""
    return sums[kind.bad_sums[0]] if kind.bad_sums else 0.0


def bad_fields(kind: Kind, sums: Mapping[str, float]) -> dict[str, int]:
    """Return the counts that are not 0, with the names of ``metrics.jsonl``."""
    return {f"num_{name}": round(sums[name]) for name in kind.bad_sums if sums.get(name)}


class BadValueTally:
    """Counts over the steps of one attempt."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._sums = dict.fromkeys(kind.bad_sums, 0.0)
        self._num_samples = 0

    def add(self, sums: Mapping[str, float], num_samples: int) -> bool:
        """Add the counts of one step; return whether these are the first bad values of the attempt."""
        is_first = not num_bad(self._kind, self._sums) and num_bad(self._kind, sums) > 0
        for name in self._sums:
            self._sums[name] += sums[name]
        self._num_samples += num_samples
        return is_first

    def fields(self) -> dict[str, int]:
        """Return the counts for an event; empty if nothing was bad or fully masked."""
        counts = bad_fields(self._kind, self._sums)
        return {**counts, self._kind.words.count_field: self._num_samples} if counts else {}
