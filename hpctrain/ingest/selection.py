"""Which spectra to keep, and why the others are dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpctrain.ingest.block import SpectraBlock


@dataclass(frozen=True)
class Selection:
    """Cuts on rows; each has its own reason in the summary.

    Parameters
    ----------
    keep_sky : bool
        Keep sky fibres (class SKY, redshift NaN).
    only_good_zwarn : bool
        Drop rows with a redshift warning, or with none known.
    need_redshift : bool
        Drop rows without a redshift.
    spectypes : tuple of str
        Keep only these classes; empty keeps all.
    min_good_fraction : float
        Smallest part of the pixels of the output grid that the spectrum's own range covers that must have ivar > 0.
    """

    keep_sky: bool = False
    only_good_zwarn: bool = False
    need_redshift: bool = False
    spectypes: tuple[str, ...] = ()
    min_good_fraction: float = 0.1

    def before_resampling(self, block: SpectraBlock) -> list[str]:
        """Return for each row why it is dropped, or an empty string."""
        reasons = ["" if self.keep_sky and reason == "sky fibre" else reason for reason in block.reasons]
        is_sky = [reason == "sky fibre" for reason in block.reasons]
        zwarn = block.columns.get("zwarn", np.full(len(block), -1))
        redshift = block.columns.get("redshift", np.full(len(block), np.nan))
        spectype = block.columns.get("spectype", np.full(len(block), b""))
        alive = (block.ivar > 0).any(axis=1)
        for row, reason in enumerate(reasons):
            if reason:
                continue
            if not alive[row]:
                reasons[row] = "no pixel with ivar > 0"
            elif is_sky[row]:
                continue
            elif self.only_good_zwarn and zwarn[row] != 0:
                reasons[row] = "redshift warning" if zwarn[row] > 0 else "no redshift warning flag (--zwarn good)"
            elif self.need_redshift and not np.isfinite(redshift[row]):
                reasons[row] = "no redshift"
            elif self.spectypes and spectype[row].decode(errors="replace").strip() not in self.spectypes:
                reasons[row] = f"class {spectype[row].decode(errors='replace').strip() or 'unknown'}"
        return reasons

    def after_resampling(self, ivar: np.ndarray, covered: np.ndarray) -> list[str]:
        """Return for each row on the output grid why it is dropped, or an empty string.

        Parameters
        ----------
        ivar : ndarray, shape (n, L)
            On the output grid.
        covered : ndarray, shape (L,), bool
            Pixels of the output grid that the input's range reaches.
        """
        num_covered = int(covered.sum())
        if num_covered == 0:
            return ["outside the wavelength grid"] * len(ivar)
        good = (ivar > 0).sum(axis=1) / num_covered
        return [
            "no pixel with ivar > 0"
            if part == 0
            else (f"under {self.min_good_fraction:.0%} of its pixels good" if part < self.min_good_fraction else "")
            for part in good
        ]
