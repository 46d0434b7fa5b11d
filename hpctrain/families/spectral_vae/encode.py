"""Encode spectra into a catalogue: latent vector, reconstruction error (χ²) and anomaly score of every object.

N spectra, L pixels, S latents. The module streams the spectra and keeps only latents and a few numbers per object in
memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain import __version__
from hpctrain.errors import DataError
from hpctrain.families.held_out import NoResultsError
from hpctrain.families.spectral_vae.anomaly_reference import UNUSUAL
from hpctrain.families.spectral_vae.catalogue import (
    COLUMNS,
    ENCODED,
    FORMAT,
    FORMAT_VERSION,
    NO_DATA,
    OUTSIDE,
    REJECTED,
    ROW,
    STATUS,
)
from hpctrain.families.spectral_vae.scoring import AUTO, Scored, score_table, write_reference
from hpctrain.files import creation_stamp
from hpctrain.kinds.spectra.catalogue import other_columns, source_files, write_catalogue
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.snr import signal_to_noise
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.samples.loader import padded_requests, read_ahead

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.hdf5 import SpectraSet


_UNUSUAL_SCORE = f"with an anomaly score of {UNUSUAL:g} or more (a false alarm for 1 in {10**UNUSUAL:g})"


class NothingEncodedError(NoResultsError):
    """None of the spectra can be encoded."""


@dataclass(frozen=True)
class EncodeSummary:
    """Counts and columns of a written catalogue.

    Parameters
    ----------
    path : Path
        The catalogue.
    counts : dict of str to int
        Number of objects of each `STATUS`.
    median_chi2 : float
        Median RECON_MSE.
    num_anomalous : int
        Number of objects with an ANOMALY_SCORE of `UNUSUAL` or more.
    reference : str
        What the scores compare with.
    columns : list of str
        Columns copied from the input.
    """

    path: Path
    counts: dict[str, int]
    median_chi2: float
    num_anomalous: int
    reference: str
    columns: list[str]

    def __str__(self) -> str:
        total = sum(self.counts.values())
        lines = [f"{self.path}: {total} objects"]
        lines += [f"  {count:>9}  {text}" for text, count in self.counts.items() if count or text == STATUS[ENCODED]]
        lines.append(f"  median reduced chi-square {self.median_chi2:.3f}; {self.num_anomalous} {_UNUSUAL_SCORE}")
        lines.append(f"  anomaly scores compare with {self.reference}")
        if self.columns:
            lines.append(f"  columns copied from the input: {', '.join(self.columns)}")
        return "\n".join(lines)


def encode_to_file(
    model: torch.nn.Module,
    card: Mapping[str, Any],
    spectra: SpectraSet,
    rows: np.ndarray | None,
    out: str | Path,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    reader_threads: int = 2,
    on_batch: Any = None,
    against: str = AUTO,
    keep_reference: Path | None = None,
    with_rows: bool = False,
) -> EncodeSummary:
    """Encode spectra into an HDF5 catalogue; write the file as a whole or not at all.

    Parameters
    ----------
    model : torch.nn.Module
        Model on `device`, in evaluation mode, as :func:`hpctrain.families.store.load_model` returns it.
    card : mapping
        The model's card, whose ``normalise`` section defines the normalisation.
    spectra : SpectraSet
        Spectra on the wavelength grid of the training data.
    rows : ndarray, shape (N,), int64, optional
        Rows of the set, in the order of the catalogue; all by default.
    out : str or Path
        Path of the catalogue; an existing file is replaced.
    batch_size : int
        Spectra per batch, which limits the memory.
    device : str or torch.device
        Device of the model.
    reader_threads : int
        Number of threads that prefetch batches.
    on_batch : callable, optional
        Receives the number of objects done so far.
    against : {"auto", "file", "model"}
        What the anomaly scores compare with, as for :func:`hpctrain.families.spectral_vae.scoring.score_table`.
    keep_reference : Path, optional
        File to write what these objects have in common to, for the scores of other objects.
    with_rows : bool
        Write the rows as a column, too.

    Returns
    -------
    EncodeSummary

    Raises
    ------
    NothingEncodedError
        No spectrum can be encoded; nothing is written.
    DataError
        The spectra are on another grid, `out` cannot be written, or there is nothing to score against.
    """
    difference = model.facts.difference(spectra)
    if difference:
        raise DataError(
            f"the spectra are not on the wavelength grid of the model: {difference}; "
            "run `hpctrain ingest` with the grid of the training data"
        )
    rows = np.arange(len(spectra), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
    table = _empty_table(spectra, rows)
    start = 0
    for batch in read_ahead(
        spectra, padded_requests(rows, batch_size), reader_threads, depth=2 * max(1, reader_threads)
    ):
        values = encode_batch(model, card, batch.to(device))
        if start == 0:
            table["LATENT_VEC"] = np.full((len(rows), values["LATENT_VEC"].shape[1]), np.nan, COLUMNS["LATENT_VEC"][0])
        stop = min(start + batch_size, len(rows))
        for name, value in values.items():
            table[name][start:stop] = value[: stop - start]
        start = stop
        if on_batch is not None:
            on_batch(start)
    if not (table["STATUS"] == ENCODED).any():
        raise NothingEncodedError(_why_nothing(table["STATUS"]))
    found = score_table(table, card, against)
    table |= found.columns
    if keep_reference is not None:
        write_reference(keep_reference, table, card)
    attributes = _attributes(card, spectra) | found.attributes
    number = {ROW: (rows, "row of the spectrum in the input files, counted over all of them")} if with_rows else {}
    others = other_columns(spectra, rows, {*table, *number})
    copied = write_catalogue(Path(out), table, COLUMNS, attributes, others, number)
    return _summary(Path(out), table, found, copied)


def _why_nothing(status: np.ndarray) -> str:
    counts = {text: int((status == value).sum()) for value, text in STATUS.items()}
    listed = "; ".join(f"{count:,}: {text}" for text, count in counts.items() if count)
    return (
        f"none of the {len(status):,} spectra can be encoded ({listed or 'there are none'}), so nothing is written; "
        "`hpctrain data doctor FILE` says what is wrong with the spectra, and --column names other columns"
    )


def _empty_table(spectra: SpectraSet, rows: np.ndarray) -> dict[str, np.ndarray]:
    names = [name for name in COLUMNS if name not in ("target_id", "redshift", "LATENT_VEC")]
    table = {name: np.zeros(len(rows), dtype=COLUMNS[name][0]) for name in names}
    return {"target_id": spectra.target_id[rows], "redshift": spectra.redshift[rows], **table}


@torch.no_grad()
def encode_batch(model: torch.nn.Module, card: Mapping[str, Any], raw: SpectraBatch) -> dict[str, np.ndarray]:
    """Encode a batch of spectra as they were read.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    card : mapping
        Its card, whose ``normalise`` section defines the normalisation.
    raw : SpectraBatch
        N spectra on the model's device.

    Returns
    -------
    dict of ndarray
        ``LATENT_VEC`` (N, S), ``RECON_MSE``, ``SNR``, ``NORM``, ``WINDOW``, ``NUM_PIXELS``, ``STATUS`` (N,),
        with the types of a catalogue.
    """
    batch = normalise(raw, NormaliseSection.model_validate(card["normalise"]))
    mean, reconstruction, covered = model.describe(batch)
    valid = (batch.ivar > 0) & covered
    chi2 = reduced_chi2(batch.flux, reconstruction, batch.ivar, covered)
    status = torch.full(chi2.shape, ENCODED, dtype=torch.uint8, device=chi2.device)
    status[~valid.any(dim=1)] = OUTSIDE
    status[batch.window < 0] = REJECTED
    status[~raw.used] = NO_DATA
    unused = status != ENCODED
    values = {
        "LATENT_VEC": mean.masked_fill(unused[:, None], torch.nan).half(),
        "RECON_MSE": chi2.masked_fill(unused, torch.nan),
        "SNR": signal_to_noise(batch.flux, batch.ivar).masked_fill(unused, torch.nan),
        "NORM": batch.norm.masked_fill(batch.window < 0, torch.nan),
        "WINDOW": batch.window,
        "NUM_PIXELS": valid.sum(dim=1),
        "STATUS": status,
    }
    return {name: value.cpu().numpy().astype(COLUMNS[name][0]) for name, value in values.items()}


def _attributes(card: Mapping[str, Any], spectra: SpectraSet) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hpctrain_version": __version__,
        "created": creation_stamp(),
        "model_name": str(card.get("name", "")),
        "model_weights": str(card.get("weights", "")),
        "model_step": int(card.get("step") or -1),
        "model_section": json.dumps(card["section"]),
        "normalise": json.dumps(card["normalise"]),
        "source_files": source_files(spectra),
    }


def _summary(path: Path, table: Mapping[str, np.ndarray], found: Scored, copied: list[str]) -> EncodeSummary:
    status, chi2 = table["STATUS"], table["RECON_MSE"]
    finite = chi2[np.isfinite(chi2)]
    return EncodeSummary(
        path=path,
        counts={text: int((status == value).sum()) for value, text in STATUS.items()},
        median_chi2=float(np.median(finite)),
        num_anomalous=int((table["ANOMALY_SCORE"] >= UNUSUAL).sum()),
        reference=str(found.attributes["anomaly_reference"]),
        columns=copied,
    )
