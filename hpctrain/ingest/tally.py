"""Counts of rows kept and dropped, with reasons: every row and every file that was read is in one of these counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FEW_ALIKE = 3
"""Files with the same reason that are named one by one."""


@dataclass
class Tally:
    """Counts of one file or of many.

    Parameters
    ----------
    num_read : int
        Rows read: spectra, or single exposures if these are coadded.
    num_kept : int
        Spectra written.
    num_merged : int
        Exposures that went into the coadd of another row.
    dropped : Counter of str
        Rows left out, by reason.
    remarks : Counter of str
        Notes on rows that were kept.
    failed_files : list of (str, str)
        Files that could not be read (to their end), and why.
    """

    num_files: int = 0
    num_read: int = 0
    num_kept: int = 0
    num_merged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    failed_files: list[tuple[str, str]] = field(default_factory=list)

    @property
    def num_dropped(self) -> int:
        return sum(self.dropped.values())

    def add(self, other: Tally) -> None:
        """Add the counts of another tally to these."""
        self.num_files += other.num_files
        self.num_read += other.num_read
        self.num_kept += other.num_kept
        self.num_merged += other.num_merged
        self.dropped.update(other.dropped)
        self.remarks.update(other.remarks)
        self.failed_files.extend(other.failed_files)

    def failures(self) -> list[str]:
        """Return a line for each file that could not be read; many files with the same reason share one line."""
        return lines_by_reason(self.failed_files)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain values for JSON."""
        return {
            "files": self.num_files,
            "read": self.num_read,
            "kept": self.num_kept,
            "merged": self.num_merged,
            "dropped": dict(self.dropped.most_common()),
            "remarks": dict(self.remarks.most_common()),
            "failed_files": [{"file": path, "reason": reason} for path, reason in self.failed_files],
        }


def lines_by_reason(files: Sequence[tuple[str, str]], most_named: int = FEW_ALIKE) -> list[str]:
    """Return a line for each file and its reason; many files with the same reason share one line.

    Parameters
    ----------
    files : sequence of (str, str)
        Paths, and why each of them was not read.
    most_named : int
        Files with the same reason that are named one by one; more share one line.
    """
    by_reason: dict[str, list[str]] = {}
    for path, reason in files:
        by_reason.setdefault(reason, []).append(path)
    lines = []
    for reason, paths in by_reason.items():
        if len(paths) > most_named:
            lines.append(f"{len(paths)} files, the first of them {paths[0]}: {reason}")
        else:
            lines += [f"{path}: {reason}" for path in paths]
    return lines
