"""The findings of an inspection of some hundred spectra, as plain values for check, doctor, trainer and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hpctrain.errors import DataError

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Remark:
    """One finding.

    Parameters
    ----------
    severity : str
        ``error``: training on these spectra cannot succeed. ``warning``: doubtful. ``note``: worth knowing.
    code : str
        Identifier for programs.
    text : str
        The finding and the option or command that changes it, in full sentences.
    key : str
        The key of the profile that the finding is about.
    """

    severity: str
    code: str
    text: str
    key: str = "data.files"


@dataclass
class Inspection:
    """The findings about the spectra of a run.

    Parameters
    ----------
    num_spectra : int
        Number M of spectra that the findings are about.
    num_inspected : int
        Number of these with a redshift whose pixels were inspected.
    num_rejected : int
        Number of the inspected spectra that have weight 0.
    num_zwarn, num_stars, num_sky : int or None
        Numbers of the M spectra with a redshift warning, of stars and of sky fibres; None if the files do not say.
    remarks : list of Remark
    """

    num_spectra: int
    num_inspected: int = 0
    num_rejected: int = 0
    num_zwarn: int | None = None
    num_stars: int | None = None
    num_sky: int | None = None
    remarks: list[Remark] = field(default_factory=list)

    def texts(self, severity: str) -> list[str]:
        """Return the texts of one severity."""
        return [remark.text for remark in self.remarks if remark.severity == severity]

    def raise_errors(self, where: str) -> None:
        """Raise the remarks of severity ``error`` as one exception.

        Raises
        ------
        DataError
            At least one remark is an error; the message lists all errors after `where`.
        """
        if errors := self.texts(ERROR):
            raise DataError("\n  ".join([f"{where}:", *errors]))

    def counts(self) -> dict[str, int]:
        """Return the known counts under the names of the event ``data``."""
        counts = {
            "num_inspected": self.num_inspected,
            "num_rejected": self.num_rejected,
            "num_zwarn": self.num_zwarn,
            "num_stars": self.num_stars,
            "num_sky": self.num_sky,
        }
        return {name: count for name, count in counts.items() if count is not None}

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Inspection:
        """Read back what :meth:`to_json` returned."""
        return cls(**{**values, "remarks": [Remark(**remark) for remark in values["remarks"]]})
