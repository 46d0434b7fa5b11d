"""The spectra of an export: training spectra calibrate it, and held-out spectra judge it; never the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.edge.prepare import Preparation, Prepared
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.snr import signal_to_noise_of_arrays
from hpctrain.profile.schema import Profile
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_split, choose_rows

SPECTRA_AT_ONCE = 64
"""Number of spectra in a batch of :func:`prepared_batches`."""
_CANDIDATES = 8
"""Number of candidates for each calibration spectrum."""
_STRATA = 8
"""Number of classes of signal to noise ratio; calibration draws the same number of spectra from each."""

REFERENCE_SPECTRA = 4096
"""Largest number of training spectra for the anomaly forest and the nearest neighbours."""


@dataclass(frozen=True)
class Sample:
    """Spectra of an export.

    Parameters
    ----------
    train : SpectraSet
        Spectra of the run's files.
    train_rows : ndarray of int64
        Rows of training spectra, at most `REFERENCE_SPECTRA`.
    held_out : SpectraSet
        Spectra of the same files, or of those of ``--held-out``.
    held_out_rows : ndarray of int64
    side : str
        Where the held-out spectra come from: ``test``, ``validation`` or ``other files``.
    """

    train: SpectraSet
    train_rows: np.ndarray
    held_out: SpectraSet
    held_out_rows: np.ndarray
    side: str


def open_sample(profile: Profile, held_out_files: list[str] | None = None) -> Sample:
    """Open the spectra of a run and choose those of an export.

    Parameters
    ----------
    profile : Profile
        Profile of the run; its split decides which spectra are held out.
    held_out_files : list of str, optional
        Files to judge the export by instead; none of their objects may have been trained on.

    Raises
    ------
    DataError
        Files cannot be read or do not fit, a side of the split is empty, or a held-out object was trained on.
    """
    data = profile.data
    spectra = open_spectra(data)
    side = assign_split(spectra.target_id, data.split, spectra.column)
    trained = choose_rows(spectra.target_id, np.flatnonzero(side == TRAIN), data.max_spectra, data.split.salt)
    if not len(trained):
        raise DataError(f"{', '.join(data.files)}: none of {len(spectra)} spectra is on the training side of the split")
    train_rows = choose_rows(spectra.target_id, trained, REFERENCE_SPECTRA, data.split.salt + "/export")
    limit, salt = profile.edge.max_held_out, data.split.salt + "/gates"
    if held_out_files:
        others = open_spectra(data.model_copy(update={"files": held_out_files}))
        known = np.intersect1d(others.target_id, spectra.target_id[trained])
        if len(known):
            raise DataError(
                f"{', '.join(held_out_files)}: {len(known)} of its objects were trained on (such as {known[0]}); "
                "an export is judged by spectra the network has never seen"
            )
        rows = choose_rows(others.target_id, np.arange(len(others)), limit, salt)
        return Sample(spectra, train_rows, others, rows.astype(np.int64), "other files")
    wanted, name = (TEST, "test") if data.split.test > 0 else (VALIDATION, "validation")
    rows = choose_rows(spectra.target_id, np.flatnonzero(side == wanted), limit, salt)
    if not len(rows):
        raise DataError(
            f"{', '.join(data.files)}: no spectrum is held out (data.split), so nothing could judge the export; "
            "name files of other spectra with --held-out"
        )
    return Sample(spectra, train_rows.astype(np.int64), spectra, rows.astype(np.int64), name)


def prepared_batches(spectra: SpectraSet, rows: np.ndarray, preparation: Preparation) -> Iterator[Prepared]:
    """Read spectra batch by batch and prepare them as the device does."""
    for start in range(0, len(rows), SPECTRA_AT_ONCE):
        batch = spectra.read(rows[start : start + SPECTRA_AT_ONCE])
        redshift = np.where(spectra.has_redshift[rows[start : start + SPECTRA_AT_ONCE]], batch.redshift.numpy(), np.nan)
        yield preparation(batch.flux.numpy(), batch.ivar.numpy(), batch.wavelength_aa.numpy(), redshift)


def signal_to_noise(prepared: Prepared) -> np.ndarray:
    """Return the median signal to noise ratio per valid pixel of each spectrum, shape (N,); NaN where none is valid."""
    return signal_to_noise_of_arrays(prepared.feeds["flux"], prepared.feeds["ivar"])


def choose_calibration(sample: Sample, preparation: Preparation, number: int) -> np.ndarray:
    """Choose training spectra that span signal to noise ratio and redshift evenly.

    Parameters
    ----------
    sample : Sample
    preparation : Preparation
    number : int
        Largest number.

    Returns
    -------
    ndarray of int64
        Rows of ``sample.train``, increasing: the same number from each of eight classes of signal to noise ratio, and
        within each class evenly from the lowest redshift to the highest.

    Raises
    ------
    DataError
        No training spectrum can be normalised.
    """
    rows = sample.train_rows
    if len(rows) > _CANDIDATES * number:
        rows = rows[np.linspace(0, len(rows) - 1, _CANDIDATES * number).round().astype(np.int64)]
    snr, usable, redshift = [], [], []
    for prepared in prepared_batches(sample.train, rows, preparation):
        snr.append(signal_to_noise(prepared))
        usable.append(prepared.window >= 0)
        redshift.append(prepared.feeds["redshift"])
    good = np.flatnonzero(np.concatenate(usable))
    if not len(good):
        raise DataError("no training spectrum can be normalised (data.normalise), so nothing can be calibrated")
    snr_of, redshift_of = np.concatenate(snr), np.concatenate(redshift)
    good = good[np.argsort(snr_of[good], kind="stable")]
    chosen: list[np.ndarray] = []
    for index, stratum in enumerate(np.array_split(good, min(_STRATA, len(good)))):
        share = (index + 1) * number // _STRATA - index * number // _STRATA
        ordered = stratum[np.argsort(redshift_of[stratum], kind="stable")]
        places = np.linspace(0, len(ordered) - 1, min(max(share, 1), len(ordered))).round().astype(np.int64)
        chosen.append(ordered[places])
    return np.sort(rows[np.concatenate(chosen)])


def prepare_all(spectra: SpectraSet, rows: np.ndarray, preparation: Preparation) -> Prepared:
    """Return the prepared spectra of a few rows in one piece."""
    pieces = list(prepared_batches(spectra, rows, preparation))
    feeds = {name: np.concatenate([piece.feeds[name] for piece in pieces]) for name in pieces[0].feeds}
    others = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("position", "norm", "window", "has_data")
    )
    return Prepared(feeds, *others)


def class_labels(spectra: SpectraSet, column: str, rows: np.ndarray) -> np.ndarray:
    """Return the class of each spectrum as text, shape (N,).

    Raises
    ------
    DataError
        A file has no column of this name with one value per spectrum.
    """
    import h5py

    values = []
    for file in spectra.fingerprint()["files"]:
        path = Path(file["path"])
        with h5py.File(path, "r") as opened:
            dataset = opened.get(column)
            if not isinstance(dataset, h5py.Dataset) or dataset.shape != (file["num_spectra"],):
                raise DataError(f"{path}: has no column '{column}' with one value per spectrum (edge.class_column)")
            values.append(np.array([_text(value) for value in dataset[()]], dtype=object))
    return np.concatenate(values)[rows].astype(str)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
