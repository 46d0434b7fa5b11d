"""Estimates the redshifts that ``hpctrain ingest`` did not find in any table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import hpctrain
from hpctrain.ingest.missing_redshifts import Estimates
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.redshift.choice import templates_for
from hpctrain.redshift.estimate import RedshiftEstimator
from hpctrain.redshift.templates import load_templates


class TemplateEstimator:
    """An :class:`~hpctrain.ingest.missing_redshifts.Estimator` with PCA templates, on the CPU.

    Parameters
    ----------
    path : Path, optional
        File of templates; by default they are made of simulated spectra, if any redshift is missing.

    Raises
    ------
    DataError
        The file holds no templates.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        if path is not None:
            load_templates(path)  # a wrong file is an error now, not after hours of reading
        self._estimator: RedshiftEstimator | None = None

    def prepare(self, wavelength_aa: np.ndarray) -> None:
        """Get templates for spectra on this grid, shape (L,)."""
        self._wavelength = torch.from_numpy(wavelength_aa.astype(np.float32))
        templates, _ = templates_for(self._path, wavelength_aa)
        self._estimator = RedshiftEstimator(templates)

    def __call__(self, flux: np.ndarray, ivar: np.ndarray) -> Estimates:
        """Return redshifts of spectra, shape (n, L)."""
        assert self._estimator is not None, "prepare comes first"
        rows = torch.arange(len(flux))
        batch = SpectraBatch(
            flux=torch.from_numpy(flux),
            ivar=torch.from_numpy(ivar),
            wavelength_aa=self._wavelength,
            redshift=torch.zeros(len(flux)),
            target_id=rows,
            row=rows,
        )
        found = self._estimator(batch)
        return Estimates(found["Z"], found["ZERR"], found["SPECTYPE"], found["ZWARN"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Templates and version."""
        assert self._estimator is not None, "prepare comes first"
        return {
            "method": "hpctrain redshift",
            "hpctrain_version": hpctrain.__version__,
            "templates": str(self._path or "made of simulated spectra"),
            "templates_sha256": self._estimator.templates.digest,
            "templates_provenance": self._estimator.templates.provenance,
        }
