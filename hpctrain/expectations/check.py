"""One check of data against an expectation, and the judgement of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from hpctrain.errors import SiteError
from hpctrain.expectations.tally import Places

SCHEMA, ROWS, WHOLE, DRIFT = 0, 1, 2, 3
"""What a check is about: columns, single rows, the files as a whole, distributions. The worst comes first."""


@dataclass
class Check:
    """A check.

    Parameters
    ----------
    what : str
        Identifier for programs, such as ``missing``.
    column : str
        Name of the column; empty where it is not about one.
    found, allowed : str
        In words.
    is_broken : bool
        What was found is beyond what is allowed.
    p : float, optional
        Chance that good data give what was found; None where chance has no part in it.
    rank : int
        What the check is about.
    size : float
        How bad it is, among those of one rank; the largest is the worst.
    places : Places, optional
        The rows that it is about.
    failed : bool
        The judgement, see :func:`judge`.
    """

    what: str
    column: str
    found: str
    allowed: str
    is_broken: bool
    p: float | None = None
    rank: int = WHOLE
    size: float = 0.0
    places: Places | None = None
    failed: bool = False

    def as_dict(self, files: Sequence[str]) -> dict[str, Any]:
        """Return plain values for JSON."""
        places = self.places if self.places is not None and self.places.number else None
        return {
            "what": self.what,
            "column": self.column or None,
            "failed": self.failed,
            "found": self.found,
            "allowed": self.allowed,
            "size": round(self.size, 6),
            "p": self.p,
            "num_rows": places.number if places else None,
            "files": {files[file]: number for file, number in places.files.most_common()} if places else {},
            "first": [{"file": files[file], "row": row, "value": text} for file, row, text in places.first]
            if places
            else [],
        }


def share_check(
    what: str,
    column: str,
    number: int,
    of: int,
    allowed: float,
    label: str,
    places: Places | None = None,
    rank: int = ROWS,
) -> Check:
    """Return the check that a share of rows is not too large.

    Parameters
    ----------
    what, column : str
    number, of : int
        Number of rows that are so, among how many.
    allowed : float
        Largest share. If it is 0, one row is too many.
    label : str
        What the rows are, such as ``without a value``.
    places : Places, optional
    rank : int
        What the check is about.
    """
    share = number / of if of else 0.0
    p = None if allowed == 0 else float(stats.binom.sf(number - 1, of, allowed))
    return Check(
        what,
        column,
        f"{percent(share)} {label}",
        "none" if allowed == 0 else f"at most {percent(allowed)}",
        share > allowed,
        p,
        rank=rank,
        size=share,
        places=places,
    )


def judge(checks: Sequence[Check], false_alarms: float) -> list[Check]:
    """Decide which checks fail, and return all, the worst first.

    Parameters
    ----------
    checks : sequence of Check
    false_alarms : float
        Largest chance that one or more checks of good data fail.

    Notes
    -----
    A check in which chance has a part fails if what was found is beyond what is allowed, and Holm's method [1]_ over
    all such checks says that chance does not explain it.

    References
    ----------
    .. [1] Holm 1979, Scand. J. Stat. 6, 65.
    """
    try:
        from statsmodels.stats.multitest import multipletests
    except ModuleNotFoundError as error:
        raise SiteError("this command needs the package statsmodels: pip install 'hpctrain[validation]'") from error
    tests = [check for check in checks if check.p is not None]
    rejected = multipletests([check.p for check in tests], false_alarms, method="holm")[0] if tests else []
    for check, is_rejected in zip(tests, rejected, strict=True):
        check.failed = check.is_broken and bool(is_rejected)
    for check in checks:
        if check.p is None:
            check.failed = check.is_broken
    return sorted(checks, key=lambda check: (not check.failed, check.rank, -check.size, check.column, check.what))


def percent(share: float) -> str:
    """Return a share as people read it."""
    if share == 0:
        return "0 %"
    return f"{100 * share:.3g} %" if share >= 1e-5 else f"{100 * share:.1e} %"
