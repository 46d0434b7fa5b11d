"""Which templates to use for spectra of some wavelength grid."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.redshift.build import build_templates
from hpctrain.redshift.log_grid import pixel_width
from hpctrain.redshift.templates import Templates, load_templates

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet

MUCH_FINER = 2.0
"""Ratio of pixels beyond which spectra lose by templates of wider pixels."""


def templates_for(path: Path | None, wavelength_aa: np.ndarray) -> tuple[Templates, list[str]]:
    """Return templates with the resolution of some spectra.

    Parameters
    ----------
    path : Path or None
        File of templates; None makes some of simulated quasars and galaxies.
    wavelength_aa : ndarray, shape (L,)
        Wavelengths of the spectra, rising [AA].

    Returns
    -------
    templates : Templates
    notes : list of str
        Lines for the user.

    Raises
    ------
    DataError
        The file holds no templates.
    """
    if path is None:
        start = time.monotonic()
        templates, notes = build_templates([], wavelength_aa=wavelength_aa)
        count = sum(template.num_spectra for template in templates.classes)
        made = f"templates: made of {count:,} simulated quasars and galaxies in {time.monotonic() - start:.0f} s"
        return templates, [*notes, f"{made}; `hpctrain redshift templates` keeps them in a file, or uses your spectra"]
    templates, pixel = load_templates(path), pixel_width(wavelength_aa)
    notes = [f"templates: {path} ({', '.join(templates.names)})"]
    if templates.pixel > MUCH_FINER * pixel:
        notes.append(
            f"the templates are {templates.pixel / pixel:.1f} times coarser than the spectra, which costs precision; "
            "make templates from spectra on this grid"
        )
    return templates.smoothed(pixel), notes


def grid_of(spectra: SpectraSet) -> np.ndarray:
    """Return the wavelengths of a set, shape (L,); those of its first spectrum where each has its own [AA]."""
    if spectra.wavelength_aa is not None:
        return spectra.wavelength_aa
    return spectra.read(np.zeros(1, dtype=np.int64)).wavelength_aa[0].double().numpy()
