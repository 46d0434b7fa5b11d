"""What a look at some hundred spectra found: as plain values, for check, doctor, trainer, records. No numpy."""

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
        ``error``: training on these spectra can come to nothing. ``warning``: doubtful. ``note``: worth knowing.
    code : str
        For programs.
    text : str
        What was found and which option or command changes it, in full sentences.
    key : str
        The key of the profile that it is about.
    """

    severity: str
    code: str
    text: str
    key: str = "data.files"


@dataclass
class Inspection:
    """What was found in the spectra of a run.

    Parameters
    ----------
    num_spectra : int
        Spectra that the findings are about, M.
    num_inspected : int
        Of these, spectra with a redshift whose pixels were looked at.
    num_rejected : int
        Of the inspected ones, spectra that carry no weight.
    num_zwarn, num_stars, num_sky : int or None
        Of the M, spectra with a redshift warning, stars and sky fibres; None where the files do not say.
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
        """Raise what makes training pointless.

        Raises
        ------
        DataError
            There is an error among the remarks; the message has all of them, after `where`.
        """
        if errors := self.texts(ERROR):
            raise DataError("\n  ".join([f"{where}:", *errors]))

    def counts(self) -> dict[str, int]:
        """Return the counts that are known, as the event ``data`` names them."""
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
