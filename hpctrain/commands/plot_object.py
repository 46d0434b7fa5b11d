"""The chart of one object of a file, with what a trained model says about it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.drawing.chart.parts import Chart
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.kinds.guess import CATALOGUE, IMAGES, LIGHT_CURVES, SPECTRA, guess_kind
from hpctrain.kinds.one_sample import row_of

_NOT_PREDICTED = ("target_id", "row", "redshift")
_MOST_PREDICTED = 6


def object_chart(path: Path, wanted_id: int | None, row: int | None, model: str | None, runs_dir: Path) -> Chart:
    """Return the chart of a spectrum, an image or a light curve.

    Parameters
    ----------
    path : Path
    wanted_id, row : int or None
        The object, by its identifier or its row.
    model : str or None
        A run, a registered version or a model folder, whose reconstruction or predictions are shown too.
    runs_dir : Path
        Folder to search for the run.

    Raises
    ------
    DataError
        The file holds no such object, or the model cannot read it.
    ProfileError
        The file holds a table, of which there is nothing to draw.
    """
    kind = guess_kind(path)
    if kind == CATALOGUE:
        message = "holds no spectra, images or light curves, so there is nothing to draw"
        raise ProfileError("command line", [Problem(str(path), message)])
    if kind == LIGHT_CURVES:
        from hpctrain.kinds.light_curves.chart import light_curve_chart

        chart, row = light_curve_chart(path, wanted_id, row)
        return chart if model is None else _with_predictions(chart, path, row, model, runs_dir)
    if kind == IMAGES:
        chart, row = _image(path, wanted_id, row)
        return chart if model is None else _with_predictions(chart, path, row, model, runs_dir)
    return _spectrum(path, wanted_id, row, model, runs_dir)


def _image(path: Path, wanted_id: int | None, row: int | None) -> tuple[Chart, int]:
    from hpctrain.kinds.images.chart import image_chart
    from hpctrain.profile.lookup import find_kind

    kind = find_kind(IMAGES)
    samples = kind.open(kind.section(files=[str(path)]))
    try:
        row = row_of(path, samples.target_id, wanted_id, row)
        batch: Any = samples.read(np.array([row]), False)
        name = f"object {samples.target_id[row]}, row {row} of {path.name}"
        return image_chart(name, batch.image[0].numpy(), getattr(samples, "bands", None) or ()), row
    finally:
        samples.close()


def _spectrum(path: Path, wanted_id: int | None, row: int | None, model: str | None, runs_dir: Path) -> Chart:
    from hpctrain.kinds.spectra.chart import spectrum_chart
    from hpctrain.kinds.spectra.section import ObservedSpectraSection
    from hpctrain.profile.lookup import find_kind

    samples: Any = find_kind(SPECTRA).open(ObservedSpectraSection(files=[str(path)]))
    try:
        row = row_of(path, samples.target_id, wanted_id, row)
        batch: Any = samples.read(np.array([row]), False)
        redshift = float(samples.redshift[row]) if samples.redshift is not None else float("nan")
        wavelength = batch.wavelength_aa.numpy().reshape(-1, batch.flux.shape[1])[0]
        flux, ivar = batch.flux[0].float().numpy(), batch.ivar[0].float().numpy()
    finally:
        samples.close()
    known = f", z = {redshift:.4f}" if np.isfinite(redshift) else ""
    title = f"object {samples.target_id[row]}, row {row} of {path.name}{known}"
    if model is None:
        return spectrum_chart(title, wavelength, flux, ivar, redshift)
    try:
        drawn = _loaded(model, runs_dir).reconstruct([str(path)], rows=[row])
    except DataError:  # a model of labels has no reconstruction; what it predicts is shown instead
        return _with_predictions(
            spectrum_chart(title, wavelength, flux, ivar, redshift), path, row, model, runs_dir
        )  # fmt: skip
    wavelength = np.atleast_2d(drawn["wavelength_aa"])[0]
    values = (drawn[name][0] for name in ("flux", "ivar"))
    return spectrum_chart(title, wavelength, *values, redshift, drawn["reconstruction"][0])


def _loaded(model: str, runs_dir: Path) -> Any:
    from hpctrain.api.loading import load

    return load(model, runs_dir=runs_dir)


def _with_predictions(chart: Chart, path: Path, row: int, model: str, runs_dir: Path) -> Chart:
    table = _loaded(model, runs_dir).predict([str(path)], rows=[row])
    texts = []
    for name in table.colnames:
        value = np.asarray(table[name])[0]
        if name not in _NOT_PREDICTED and np.ndim(value) == 0:
            texts.append(f"{name} {_text(value)}")
    return dataclasses.replace(chart, title=f"{chart.title}\n{', '.join(texts[:_MOST_PREDICTED])}")


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
