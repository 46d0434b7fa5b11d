"""Columns of a catalogue, and the codes of the reasons why a spectrum was not encoded. This module imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpctrain.families.result_files import own_datasets
from hpctrain.families.spectral_vae.anomaly_reference import REASON, SCORED
from hpctrain.kinds.spectra.layout import SURVEY_PREFIX

if TYPE_CHECKING:
    import h5py

FORMAT = "hpctrain-latents"
FORMAT_VERSION = 2
"""In version 1 ANOMALY_SCORE was what is FOREST_SCORE now; there were no SNR, LOCAL_CHI2, LATENT_DENSITY and
ANOMALY_REASON."""

ENCODED, NO_DATA, REJECTED, OUTSIDE = range(4)
STATUS = {
    ENCODED: "encoded",
    NO_DATA: "no valid pixel or no redshift",
    REJECTED: "no normalisation window with enough signal",
    OUTSIDE: "no valid pixel within the model's rest-frame range",
}
"""Values of the column STATUS: encoded, or the reason why not."""

COLUMNS = {
    "target_id": ("int64", "", "identifier of the object"),
    "redshift": ("float32", "", "redshift the spectrum was encoded with"),
    "LATENT_VEC": ("float16", "", "mean of the latent distribution; NaN where STATUS is not 0"),
    "RECON_MSE": ("float32", "", "mean squared residual in units of the variance (reduced chi-square), valid pixels"),
    "SNR": ("float32", "", "median signal to noise ratio per valid pixel"),
    "ANOMALY_SCORE": (
        "float32",
        "",
        "-log10 of the false-alarm probability: 3 if one in 1000 ordinary objects scores as high; from LOCAL_CHI2 and "
        "LATENT_DENSITY, compared with the objects that the attribute anomaly_reference names",
    ),
    "LOCAL_CHI2": ("float32", "sigma", "log RECON_MSE, compared with objects of similar SNR and redshift"),
    "LATENT_DENSITY": ("float32", "", "natural log of the probability density of LATENT_VEC; low: rare"),
    "ANOMALY_REASON": ("uint8", "", "; ".join(f"{value}: {text}" for value, text in REASON.items())),
    "FOREST_SCORE": ("float32", "", "Isolation Forest on LATENT_VEC, all objects of this file; negative: isolated"),
    "NORM": ("float32", "unit of the input flux", "median flux of the normalisation window the flux was divided by"),
    "WINDOW": ("int8", "", "index of that window in the attribute 'normalise'; -1: none"),
    "NUM_PIXELS": ("int32", "pixel", "valid pixels of the reconstruction"),
    "STATUS": ("uint8", "", "; ".join(f"{value}: {text}" for value, text in STATUS.items())),
}
"""Name to dtype, unit, meaning; the upper-case names are those of the ARD data dictionary."""

ROW = "row"
"""Column of the results of a run: the row of the spectrum in its files."""

SCORES = (*SCORED, "FOREST_SCORE")
"""Columns that compare an object with others."""


def survey_columns(file: h5py.File, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the survey's columns for some objects of a catalogue: plate, MJD, fibre, RA, Dec, class and so on.

    Parameters
    ----------
    file : h5py.File
        A catalogue, open for reading.
    rows : ndarray of int, shape (n,)
        Rows of the catalogue, in any order.

    Returns
    -------
    dict of ndarray, shape (n,)
        Every column copied from the input, under its name with the prefix ``survey_``. Texts have a fixed length, so
        that an ``npz`` file holds them without a pickle.
    """
    found = {}
    for name, column in own_datasets(file, list(file)).items():
        if name in COLUMNS or name == ROW or column.ndim != 1:
            continue
        values = column[()][rows]
        if values.dtype.kind == "O":
            values = np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values])
        found[f"{SURVEY_PREFIX}{name}"] = values.astype(values.dtype.str)  # without h5py's metadata on the type
    return found
