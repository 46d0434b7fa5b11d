"""``data-validation.json``: all checks of new data with their judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.expectations.check import Check, judge
from hpctrain.expectations.compare import checks_of
from hpctrain.expectations.look import Looked, Progress, look
from hpctrain.expectations.reference import open_reference
from hpctrain.expectations.section import Expectations
from hpctrain.expectations.sources import open_sources
from hpctrain.files import creation_time

FILE = "data-validation.json"
FORMAT = "hpctrain-data-validation"


@dataclass(frozen=True)
class Validated:
    """New data, and how they compare.

    Parameters
    ----------
    expected : Expectations
    looked : Looked
    reference : Looked or None
    checks : list of Check
        The worst first.
    against : str
        Name of the file of expectations.
    compared_with : str or None
        Name of the reference.
    """

    expected: Expectations
    looked: Looked
    reference: Looked | None
    checks: list[Check]
    against: str
    compared_with: str | None

    @property
    def failed(self) -> list[Check]:
        """The checks that failed, the worst first."""
        return [check for check in self.checks if check.failed]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        files = [str(source.path) for source in self.looked.sources]
        return {
            "format": FORMAT,
            "version": 1,
            "hpctrain_version": __version__,
            "made_at": creation_time(),
            "passed": not self.failed,
            "against": self.against,
            "reference": self.compared_with,
            "kind": self.looked.sources[0].kind,
            "files": dict(zip(files, self.looked.rows_of_files, strict=True)),
            "num_objects": self.looked.num_rows,
            "false_alarms": self.expected.false_alarms,
            "num_checks": len(self.checks),
            "num_failed": len(self.failed),
            "checks": [check.as_dict(files) for check in self.checks],
        }


def validate(
    files: Sequence[str],
    expected: Expectations,
    against: str | Path,
    reference: str | None = None,
    on_rows: Progress | None = None,
) -> Validated:
    """Check files against expectations.

    Parameters
    ----------
    files : sequence of str
        Names or patterns.
    expected : Expectations
    against : str or Path
        Name of their file.
    reference : str, optional
        Run directory or file of the data of the model in service.
    on_rows : callable, optional
        Called with the name of a file and the number of its rows read so far.

    Raises
    ------
    DataError
        Files are missing or cannot be read; the message names all of them.
    """
    sources = open_sources(files)
    old = open_reference(reference, expected) if reference is not None else None
    looked = look(sources, expected, on_rows)
    compared = look(old, expected, on_rows) if old is not None else None
    checks = judge(checks_of(looked, expected, compared), expected.false_alarms)
    return Validated(expected, looked, compared, checks, str(against), reference)
