"""The page of unusual spectra that ``hpctrain anomalies --out FILE.html`` writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.spectral_vae.anomaly_catalogue import NO_RATING
from hpctrain.families.spectral_vae.anomaly_list import anomaly_table
from hpctrain.families.spectral_vae.shown_results import ANOMALIES, read_spectra
from hpctrain.families.spectral_vae.spectra_drawing import LEGEND, MOST_SPECTRA, spectra_html
from hpctrain.report.document import Head, moment, render_document
from hpctrain.rundir import RunDir, write_atomic

if TYPE_CHECKING:
    from hpctrain.families.spectral_vae.anomaly_catalogue import Catalogue, Chosen

Arrays = dict[str, np.ndarray]
_PER_SPECTRUM = ("flux", "ivar", "reconstruction", "covered", "wavelength_aa")


def drawn_from_run(run: Path, shown: Arrays) -> tuple[Arrays | None, str]:
    """Return spectra of ``results/anomalies.npz`` that are among the chosen objects, and a note on what is missing."""
    path = RunDir(run).results / ANOMALIES
    if not run.is_dir() or not path.is_file():
        return None, "Give the spectra with --data FILE.h5 to see them here."
    stored = read_spectra(path)
    there = {_key(stored, row): row for row in range(len(stored["target_id"]))}
    pairs = [(row, there[_key(shown, row)]) for row in range(len(shown["target_id"])) if _key(shown, row) in there]
    if not pairs:
        return None, "The run keeps the spectra of none of these objects; give them with --data FILE.h5."
    rows, places = (np.array(part) for part in zip(*pairs[:MOST_SPECTRA], strict=True))
    spectra = {
        name: stored[name] if name == "wavelength_aa" and stored[name].ndim == 1 else stored[name][places]
        for name in _PER_SPECTRUM
    }
    return spectra | {name: values[rows] for name, values in shown.items()}, ""


def drawn_from_data(files: Sequence[str], model: str, runs_dir: Path, shown: Arrays) -> tuple[Arrays | None, str]:
    """Return the first few objects with their spectra from files, and the reconstructions of a model.

    Raises
    ------
    DataError
        None of the objects is in the files, or the model cannot reconstruct them.
    """
    from hpctrain.api.loading import load
    from hpctrain.kinds.spectra.hdf5 import open_spectra
    from hpctrain.kinds.spectra.section import SpectraSection

    loaded = load(model, runs_dir=runs_dir)
    with_columns = open_spectra(SpectraSection(files=list(files)))
    there = {
        (int(name), float(np.float32(redshift))): row
        for row, (name, redshift) in enumerate(zip(with_columns.target_id, with_columns.redshift, strict=True))
    }
    with_columns.close()
    wanted = [row for row in range(len(shown["target_id"])) if _key(shown, row) in there][:MOST_SPECTRA]
    if not wanted:
        raise DataError(f"{', '.join(files)}: holds none of the {len(shown['target_id'])} objects (by target_id)")
    drawn = loaded.reconstruct(list(files), rows=[there[_key(shown, row)] for row in wanted])
    covered = np.isfinite(drawn["reconstruction"])
    norm = np.where(np.isfinite(drawn["norm"]), drawn["norm"], 1.0)[:, None]
    spectra = {
        "wavelength_aa": drawn["wavelength_aa"],
        "flux": np.nan_to_num(drawn["flux"] / norm),
        "ivar": drawn["ivar"] * norm**2,
        "reconstruction": np.where(covered, drawn["reconstruction"] / norm, 0),
        "covered": covered,
    }
    return spectra | {name: values[np.array(wanted)] for name, values in shown.items()}, ""


def write_page(
    path: Path, catalogue: Catalogue, chosen: Chosen, shown: Arrays, spectra: Arrays | None, note: str
) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    if chosen.priority is not None:
        interest = np.where(chosen.interest == NO_RATING, np.nan, chosen.interest)
        shown = {**shown, "interest": interest, "priority": chosen.priority}
    figures = f"{LEGEND}{spectra_html(spectra)}" if spectra is not None else f'<p class="empty">{escape(note)}</p>'
    listed = anomaly_table(shown) if len(chosen.rows) else '<p class="empty">No object is unusual enough.</p>'
    head = Head(
        kind="Unusual spectra",
        name=escape(str(catalogue.attributes.get("model_name") or catalogue.path.name)),
        place=escape(str(catalogue.path)),
        sentence=escape(_sentence(catalogue, chosen)),
    )
    sections = [("list", "The list", listed), ("spectra", "Spectra", figures)]
    try:
        write_atomic(path, render_document(head, sections, moment(time.time())))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def _sentence(catalogue: Catalogue, chosen: Chosen) -> str:
    order = "by score" if chosen.priority is None else "by score times predicted interest"
    total = len(catalogue.columns["ANOMALY_SCORE"])
    reference = catalogue.attributes.get("anomaly_reference", "each other")
    return (
        f"{len(chosen.rows)} of {chosen.num_unusual:,} unusual objects among {total:,}, {order}, compared with "
        f"{reference}. A score of 3 means that one in 1,000 ordinary objects scores as high."
    )


def _key(arrays: dict[str, Any], row: int) -> tuple[int, float]:
    """Return what an observation is recognised by; several of one object have the same target_id."""
    return int(arrays["target_id"][row]), float(np.float32(arrays["redshift"][row]))
