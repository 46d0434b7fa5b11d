"""Look for all leaks of a profile: the data are read once. No torch here; the readers of some kinds of data use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.profile.files import matching_files
from hpctrain.profile.remote import is_remote
from hpctrain.samples.split import TEST, TRAIN
from hpctrain.validation.audit.columns import find_columns
from hpctrain.validation.audit.duplicates import RECORD, EqualRows, NearTwins
from hpctrain.validation.audit.findings import LEAK, NOTE, SUSPICION, Finding, worst_first
from hpctrain.validation.audit.fitted import ScaledColumns, find_earlier_training
from hpctrain.validation.audit.ids import find_wrong_ids, judge_numbers
from hpctrain.validation.audit.looks import find_looks
from hpctrain.validation.audit.near_rows import NUM_TABLES as NUM_ROW_TABLES
from hpctrain.validation.audit.near_rows import NearTableRows, record_of
from hpctrain.validation.audit.near_wide import NUM_TABLES as NUM_WIDE_TABLES
from hpctrain.validation.audit.near_wide import NearWideRows
from hpctrain.validation.audit.rows import SIDE_NAMES, Rows, open_rows
from hpctrain.validation.audit.sky import find_same_positions, read_positions
from hpctrain.validation.audit.spill import Spill

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.profile.sections.validate import AuditSection

FORMAT_VERSION = 1

NUM_SAMPLED = 3000
"""Rows from which scatter and common structure follow; fewer where rows have many numbers."""

MOST_SAMPLED_NUMBERS = 4_000_000


@dataclass
class Report:
    """What an audit has found.

    Parameters
    ----------
    profile : str
        Name of the profile.
    num_rows : dict of str to int
        Rows of each side.
    findings : list of Finding
        Worst first.
    """

    profile: str
    num_rows: dict[str, int]
    findings: list[Finding] = field(default_factory=list)

    def of(self, severity: str) -> list[Finding]:
        """Return the findings of one severity."""
        return [each for each in self.findings if each.severity == severity]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "format": "hpctrain audit",
            "version": FORMAT_VERSION,
            "profile": self.profile,
            "rows": self.num_rows,
            "leaks": len(self.of(LEAK)),
            "suspicions": len(self.of(SUSPICION)),
            "findings": [each.to_json() for each in self.findings],
        }


def audit(profile: Profile, tick: Callable[[int], None] = lambda _: None) -> Report:
    """Look for leaks between the sides of the split of a profile.

    Parameters
    ----------
    profile : Profile
    tick : callable
        Called with the number of rows that have been read so far.

    Raises
    ------
    DataError
        The data are missing, damaged, remote, or have yet to be simulated.
    SiteError
        A package is missing, or the folder for temporary files is full.
    """
    _refuse_absent(profile)
    rows = open_rows(profile)
    with contextlib.ExitStack() as stack:
        stack.callback(rows.close)
        section = profile.validate.audit
        findings = [Finding(NOTE, "data", note) for note in rows.notes]
        findings += find_wrong_ids(rows)
        findings += find_earlier_training(profile, rows)
        findings += find_looks(profile)
        findings += find_columns(rows, getattr(profile.model, "labels", ()), section.power, section.allow)
        repeated = list(_same_samples(rows, section, stack, tick))
        positions = read_positions(rows, section.ra, section.dec)
        if positions is not None:
            repeated += find_same_positions(rows, *positions, section.radius_arcsec)
        else:
            text = "the files have no positions, so the same object under two identifiers is found by its numbers only"
            findings.append(Finding(NOTE, "no-positions", text, key="validate.audit.ra"))
        num_repeated = sum(each.count for each in repeated if each.severity == LEAK)
        findings += repeated
        findings += judge_numbers(rows, num_repeated, positions is not None)
        counts = {name: int((rows.side == side).sum()) for side, name in SIDE_NAMES.items()}
        return Report(profile.name, counts, worst_first(findings))


def _refuse_absent(profile: Profile) -> None:
    files = profile.data.files
    if any(is_remote(pattern) for pattern in files):
        raise DataError(f"{', '.join(files)}: an audit reads files of this machine; download them first (data.files)")
    if profile.data.simulate is not None and not any(matching_files(pattern) for pattern in files):
        raise DataError(f"{', '.join(files)}: have yet to be simulated (data.simulate), so there is nothing to audit")


def _same_samples(
    rows: Rows, section: AuditSection, stack: contextlib.ExitStack, tick: Callable[[int], None]
) -> Iterator[Finding]:
    """Read all rows once, and yield findings about equal and nearly equal ones, and about scaled columns."""

    def spill(dtype: np.dtype) -> Spill:
        return stack.enter_context(Spill(dtype, len(rows)))

    equal = EqualRows(rows, spill(RECORD), spill(RECORD))
    scaled = ScaledColumns(rows)
    near = _near(rows, spill) if section.near_duplicates else None
    for first, inputs in rows.blocks():
        for each in (equal, scaled, *((near,) if near is not None else ())):
            each.add(first, inputs)
        tick(first + len(inputs))
    twins, num_part = equal.twins()
    yield from scaled.findings()
    yield from equal.findings(twins, num_part)
    if near is not None:
        yield from near.findings(set(twins[:, 0].tolist()))


def _near(rows: Rows, spill: Callable[[np.dtype], Spill]) -> NearTwins | None:
    """Return what finds nearly equal rows; None if there are too few rows."""
    used = np.flatnonzero(rows.side <= TEST)
    if len(used) < 2 or (rows.side[used] == TRAIN).all():
        return None
    one = rows.read(used[:1])
    num = int(np.clip(MOST_SAMPLED_NUMBERS // max(1, one.values.shape[1]), 32, NUM_SAMPLED))
    chosen = np.random.default_rng(5).choice(used, min(num, len(used)), replace=False)
    sample = rows.read(np.sort(chosen))
    if not rows.is_table:
        return NearWideRows(rows, [spill(RECORD) for _ in range(NUM_WIDE_TABLES)], sample)
    near = NearTableRows(rows, sample)
    near.spills = [spill(record_of(len(near.columns))) for _ in range(NUM_ROW_TABLES)]
    return near


__all__ = ["Report", "audit"]
