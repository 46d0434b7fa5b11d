"""Choose the unusual objects of a catalogue, with ratings of a person if there are some. No torch here.

N objects of the catalogue, n chosen ones, S latents.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.result_files import Arrays, read_datasets
from hpctrain.families.spectral_vae.anomaly_reference import NOT_SCORED
from hpctrain.families.spectral_vae.catalogue import COLUMNS, FORMAT, survey_columns
from hpctrain.families.spectral_vae.interest import features_of, rerank

NO_RATING = -1
"""Interest of an object that nobody has rated."""

_FEATURES = "LATENT_VEC", "LOCAL_CHI2", "LATENT_DENSITY"

_SHOWN = {
    "target_id": "target_id",
    "redshift": "redshift",
    "anomaly_score": "ANOMALY_SCORE",
    "local_chi2": "LOCAL_CHI2",
    "latent_density": "LATENT_DENSITY",
    "anomaly_reason": "ANOMALY_REASON",
    "forest_score": "FOREST_SCORE",
    "chi2": "RECON_MSE",
    "snr": "SNR",
}
"""Names in a list of unusual objects, and the columns of the catalogue."""


@dataclass(frozen=True)
class Catalogue:
    """A catalogue that was read.

    Parameters
    ----------
    path : Path
    columns : mapping of ndarray, shape (N, ...)
        The computed columns.
    attributes : dict
        Those of the file.
    """

    path: Path
    columns: Arrays
    attributes: dict[str, Any]

    def rows(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return some objects, shape (n,), with the names of ``anomalies.npz`` and the columns of the survey."""
        with h5py.File(self.path, "r") as file:
            survey = survey_columns(file, rows)
        return {name: self.columns[column][rows] for name, column in _SHOWN.items()} | survey


@dataclass(frozen=True)
class Chosen:
    """Unusual objects, the first one to be looked at first.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        Rows of the catalogue.
    num_unusual : int
        Number of objects that were to choose from.
    interest : ndarray of int, shape (n,)
        Ratings; `NO_RATING` where there is none.
    predicted, priority : ndarray, shape (n,), or None
        Predicted interest and the score that it was multiplied to; None without ratings.
    """

    rows: np.ndarray
    num_unusual: int
    interest: np.ndarray
    predicted: np.ndarray | None = None
    priority: np.ndarray | None = None


def read_scored(path: Path) -> Catalogue:
    """Read the computed columns of a catalogue of ``hpctrain encode`` or ``hpctrain infer``.

    Raises
    ------
    DataError
        It cannot be read, is no catalogue, or has no anomaly scores of this version.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            columns = read_datasets(file, [name for name in COLUMNS if name in file])
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a catalogue ({error})") from error
    if attributes.get("format") != FORMAT:
        raise DataError(f"{path}: not a catalogue of `hpctrain encode` or `hpctrain infer` (no 'format: {FORMAT}')")
    missing = [name for name in (*_SHOWN.values(), "LATENT_VEC") if name not in columns]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; an older hpctrain wrote it (format version "
            f"{attributes.get('format_version', '?')}), whose scores meant something else. The signal to noise ratio "
            f"that today's scores need is in the spectra only, so read them again: {_again(path, attributes)}"
        )
    if (columns["ANOMALY_REASON"] == NOT_SCORED).all():
        raise DataError(f"{path}: no object has an anomaly score ({attributes.get('anomaly_reference', 'no reason')})")
    return Catalogue(path, columns, attributes)


def _again(path: Path, attributes: Mapping[str, Any]) -> str:
    """Return the command that writes a catalogue anew, with the model and the files that the old one names."""
    out = shlex.quote(str(path.with_name(f"{path.stem}-new{path.suffix}")))
    files = [str(_plain(name)) for name in np.atleast_1d(attributes.get("source_files", "FILE.h5"))]
    more = f" (and {len(files) - 1} more: see the attribute source_files)" if len(files) > 1 else ""
    if "bundle" in attributes:
        return f"hpctrain infer {shlex.quote(str(attributes['bundle']))} FILE.h5 --out {out}"
    weights = str(attributes.get("model_weights") or "")
    run = shlex.quote(str(Path(weights).parent.parent)) if weights else "RUN"
    return f"hpctrain encode {run} {shlex.quote(files[0])} --out {out}{more}"


def choose(catalogue: Catalogue, top: int, false_alarm: float, ratings: Mapping[int, int] | None = None) -> Chosen:
    """Choose unusual objects.

    Parameters
    ----------
    catalogue : Catalogue
    top : int
        Largest number of objects.
    false_alarm : float
        Largest probability that an ordinary object scores as high.
    ratings : mapping of int to int, optional
        Interest of objects by their target_id. They are kept among the chosen ones whatever their score.

    Returns
    -------
    Chosen
        By score; with ratings by the score times the predicted interest.

    Raises
    ------
    DataError
        None of the rated objects is in the catalogue.
    """
    score = np.nan_to_num(catalogue.columns["ANOMALY_SCORE"].astype(np.float64), nan=-1.0)
    is_unusual = score >= -np.log10(false_alarm)
    interest = np.full(len(score), NO_RATING)
    if not ratings:
        order = np.argsort(-score, kind="stable")
        rows = order[is_unusual[order]]
        return Chosen(rows[:top], len(rows), interest[rows[:top]])
    predicted, priority = np.full(len(score), np.nan), np.full(len(score), -1.0)
    good = np.flatnonzero(score >= 0)
    target_id = catalogue.columns["target_id"]
    rated = good[np.isin(target_id[good], list(ratings))]
    if not len(rated):
        raise DataError(f"{catalogue.path}: none of the {len(ratings)} rated objects is in this catalogue")
    interest[rated] = [ratings[int(name)] for name in target_id[rated]]
    parts = (catalogue.columns[name][good].astype(np.float64) for name in _FEATURES)
    seed = int(catalogue.attributes.get("anomaly_seed", 0))
    found = rerank(score[good], features_of(*parts), np.searchsorted(good, rated), interest[rated], seed)
    predicted[good], priority[good] = found
    order = np.argsort(-priority, kind="stable")
    rows = order[is_unusual[order]][:top]
    rows = np.concatenate([rows, np.setdiff1d(rated, rows)])
    rows = rows[np.argsort(-priority[rows], kind="stable")]
    return Chosen(rows, int(is_unusual.sum()), interest[rows], predicted[rows], priority[rows])


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
