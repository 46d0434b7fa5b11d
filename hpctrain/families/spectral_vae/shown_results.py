"""Read what a run of this family left in ``results/``, for the report. N spectra, L pixels, S latents."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from hpctrain.families.result_files import Arrays, UnusableResultsError, read_datasets, read_npz
from hpctrain.families.spectral_vae.anomaly_reference import UNUSUAL
from hpctrain.families.spectral_vae.catalogue import survey_columns
from hpctrain.files import open_regular
from hpctrain.kinds.spectra.layout import SURVEY_PREFIX

RECONSTRUCTIONS, ANOMALIES, LATENTS = "reconstructions.npz", "anomalies.npz", "latents.h5"
RESIDUALS = "residuals.npz"

_NAMED_ROWS = 1000
"""Number of rows of the catalogue whose survey columns to read; more than there are reconstructed spectra."""
_SPECTRA_KEYS = ("wavelength_aa", "flux", "ivar", "reconstruction", "covered", "target_id", "redshift")
_SCORES = ("anomaly_score", "local_chi2", "latent_density", "anomaly_reason", "snr")
_PER_OBJECT = ("target_id", "redshift", "chi2", "norm", *_SCORES)
_NUMBERS = (*_SPECTRA_KEYS, *_PER_OBJECT, "step")
_OF_CATALOGUES = ("redshift", "SNR", "RECON_MSE", "target_id", "STATUS", "ANOMALY_SCORE", "LOCAL_CHI2", "FOREST_SCORE")
_LATENT_KEYS = ("LATENT_VEC", *_OF_CATALOGUES)


def read_results(path: Path) -> Arrays:
    """Return the arrays of a file that a run of this family left; raises as the function for that file."""
    readers = {LATENTS: read_catalogue, RESIDUALS: read_residuals}
    return readers.get(path.name, read_spectra)(path)


def read_spectra(path: Path) -> Arrays:
    """Return the arrays of ``reconstructions.npz`` or ``anomalies.npz``, as ``results.reconstructions`` makes them.

    Raises
    ------
    UnusableResultsError
        An array is absent, or has another shape or type.
    """
    arrays = read_npz(path)
    missing = [name for name in _SPECTRA_KEYS if name not in arrays]
    if missing:
        raise UnusableResultsError(f"lacks {', '.join(missing)}")
    if reason := _unusable_spectra(arrays):
        raise UnusableResultsError(f"is damaged: {reason}")
    return arrays


def read_residuals(path: Path) -> Arrays:
    """Return the arrays of ``residuals.npz``, as ``residuals.residual_sums`` makes them.

    Raises
    ------
    UnusableResultsError
        An array is absent, or has another shape or type.
    """
    arrays = read_npz(path)
    shapes: dict[str, tuple[int, ...]] = {"num_spectra": ()}
    for axis in ("observed", "rest"):
        num_edges = len(np.atleast_1d(arrays.get(f"{axis}_edges_aa", ())))
        shapes[f"{axis}_edges_aa"] = (num_edges,)
        shapes |= dict.fromkeys((f"{axis}_{what}" for what in ("count", "pull", "chi2")), (num_edges - 1,))
    for name, shape in shapes.items():
        if name not in arrays:
            raise UnusableResultsError(f"lacks {name}")
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "iuf":
            raise UnusableResultsError(f"is damaged: {name} has another shape or type")
    return arrays


def read_catalogue(path: Path) -> Arrays:
    """Return columns of ``latents.h5``, and the survey's columns for its first rows.

    Returns
    -------
    mapping
        ``LATENT_VEC`` (N, S), and those of ``redshift``, ``SNR``, ``RECON_MSE``, ``ANOMALY_SCORE``, ``LOCAL_CHI2``,
        ``FOREST_SCORE``, ``target_id``, ``STATUS`` (N,) that exist; the columns with the prefix ``survey_`` have 1000
        rows at most. The score of a catalogue of version 1 is its ``FOREST_SCORE``.

    Raises
    ------
    UnusableResultsError
        There are no latent vectors, or a column has another shape or type.
    """
    with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
        arrays = read_datasets(file, list(_LATENT_KEYS))
        latents = arrays.get("LATENT_VEC")
        if latents is None or latents.ndim != 2:
            raise UnusableResultsError("has no LATENT_VEC of shape (N, S)")
        wrong = [
            name
            for name, array in arrays.items()
            if array.dtype.kind not in "biuf" or (name != "LATENT_VEC" and array.shape != latents.shape[:1])
        ]
        if wrong:
            raise UnusableResultsError(f"is damaged: {wrong[0]} has another shape or type")
        if "ANOMALY_SCORE" in arrays and "LOCAL_CHI2" not in arrays:
            arrays["FOREST_SCORE"] = arrays.pop("ANOMALY_SCORE")
        num_rows = len(arrays.get("target_id", ()))
        return arrays | survey_columns(file, np.arange(min(num_rows, _NAMED_ROWS)))


def with_survey_columns(spectra: Arrays, latents: Arrays | None) -> Arrays:
    """Return reconstructed spectra with the survey's columns, where they are the first rows of the catalogue."""
    target_id = spectra["target_id"]
    if latents is None or len(target_id) > _NAMED_ROWS:
        return spectra
    if not np.array_equal(latents.get("target_id", ())[: len(target_id)], target_id):
        return spectra
    survey = {name: values for name, values in latents.items() if name.startswith(SURVEY_PREFIX)}
    return {**spectra, **{name: values[: len(target_id)] for name, values in survey.items()}}


def strangeness(latents: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return a number (N,) that is larger for stranger objects, and which objects (N,) are unusual by it.

    It is ``ANOMALY_SCORE``, or minus the score of the Isolation Forest in an older catalogue; 0 without either.
    """
    if "ANOMALY_SCORE" in latents:
        score = np.asarray(latents["ANOMALY_SCORE"], dtype=np.float64)
        return score, score >= UNUSUAL
    score = -np.asarray(latents.get("FOREST_SCORE", np.zeros(len(latents["LATENT_VEC"]))), dtype=np.float64)
    return score, score > 0


def num_encoded(latents: Arrays) -> int:
    """Return the number of spectra with latent vectors, which are those that are not rejected or fully masked."""
    return int(np.isfinite(latents["LATENT_VEC"]).all(axis=1).sum())


def chi2_of(latents: Arrays | None) -> np.ndarray:
    """Return the finite chi-squares per pixel of the held-out spectra, shape (n,)."""
    chi2 = np.asarray((latents or {}).get("RECON_MSE", []), dtype=np.float64)
    return chi2[np.isfinite(chi2)]


def _unusable_spectra(arrays: Arrays) -> str:
    """Return the reason why arrays cannot be drawn as spectra; empty if they can."""
    flux, wavelength_aa = arrays["flux"], arrays["wavelength_aa"]
    if flux.ndim != 2 or 0 in flux.shape:
        return f"flux has the shape {flux.shape}"
    if wavelength_aa.shape not in (flux.shape, flux.shape[1:]) or not np.isfinite(_floats(wavelength_aa)).all():
        return "wavelength_aa does not belong to flux"
    shapes = {
        **dict.fromkeys(("ivar", "reconstruction", "covered"), flux.shape),
        **dict.fromkeys(_PER_OBJECT, flux.shape[:1]),
        "step": (),
    }
    shapes |= {name: flux.shape[:1] for name in arrays if name.startswith(SURVEY_PREFIX)}
    wrong = [name for name, shape in shapes.items() if name in arrays and arrays[name].shape != shape]
    wrong += [name for name, array in arrays.items() if array.dtype.kind not in "biuf" and name in _NUMBERS]
    return f"{wrong[0]} has another shape or type" if wrong else ""


def _floats(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "biuf" else np.full(array.shape, np.nan)
