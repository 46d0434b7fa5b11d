"""What the report shows of a run of this family: the card of χ², its sentence, the panels of spectra and latents."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.drawing.scale import grouped, significant
from hpctrain.families.result_files import Arrays
from hpctrain.families.shown import FEW_HELD_OUT, Card, Panel
from hpctrain.families.spectral_vae.anomaly_list import anomaly_table
from hpctrain.families.spectral_vae.anomaly_reference import UNUSUAL
from hpctrain.families.spectral_vae.fit_drawing import observed_figure, rest_figure, trend_figure
from hpctrain.families.spectral_vae.latents_drawing import chi2_histogram, class_figure, latent_figure
from hpctrain.families.spectral_vae.shown_results import (
    ANOMALIES,
    LATENTS,
    RECONSTRUCTIONS,
    RESIDUALS,
    chi2_of,
    num_encoded,
    strangeness,
    with_survey_columns,
)
from hpctrain.families.spectral_vae.spectra_drawing import LEGEND, MOST_SPECTRA, spectra_html, spectrum_document

Results = Mapping[str, Arrays]


def chi2_card(evaluation: Mapping[str, Any], held_out: str, results: Results) -> Card:
    """Return the card of χ² per pixel, with the median of the finished model beside the mean."""
    remark = f"mean of {held_out}" if evaluation.get("num_spectra") else "held out"
    if (median := _median(results)) is not None:
        remark += f"; median {median:.3g}"
    return Card("χ² per pixel", significant(evaluation.get("chi2")), remark if evaluation else "not evaluated yet")


def fit_sentence(evaluation: Mapping[str, Any], held_out: str, results: Results) -> str:
    """Return one sentence on χ² of the held-out spectra."""
    if evaluation.get("chi2") is None:
        return f"The loss on {held_out} is {evaluation['loss']:.4g}."
    median = _median(results)
    beside = "" if median is None else f" (median {median:.3g})"
    return f"Reconstructions of {held_out} have a mean χ² of {evaluation['chi2']:.3g} per pixel{beside}."


def example(results: Results) -> str:
    """Return the reconstructed spectrum with the median χ² as an SVG file; empty if there is none."""
    arrays = _reconstructed(results)
    return spectrum_document(arrays) if arrays is not None and len(arrays["flux"]) else ""


def _median(results: Results) -> float | None:
    """Return the median chi-square per pixel of the held-out spectra; None before the run is finished."""
    chi2 = chi2_of(results.get(LATENTS))
    return statistics.median(chi2.tolist()) if len(chi2) else None


def _reconstructed(results: Results) -> Arrays | None:
    arrays = results.get(RECONSTRUCTIONS)
    return None if arrays is None else with_survey_columns(arrays, results.get(LATENTS))


def _reconstructions(results: Results) -> str:
    arrays = _reconstructed(results)
    step = arrays.get("step")
    when = f" as the network reconstructed them at step {grouped(int(step))}" if step is not None else ""
    more = len(arrays["flux"]) - MOST_SPECTRA
    rest = f" {more} more are in results/{RECONSTRUCTIONS}." if more > 0 else ""
    return f'<p class="lead">Held-out spectra{when}.{rest}</p>{LEGEND}{spectra_html(arrays)}'


def _anomalies(results: Results) -> str:
    arrays = results[ANOMALIES]
    is_new = "local_chi2" in arrays
    lead = _how_many(results.get(LATENTS)) + _LEAD if is_new else _LEAD_OF_FOREST
    if LATENTS in results and (number := num_encoded(results[LATENTS])) < FEW_HELD_OUT:
        lead += f" With only {number} held-out spectra these scores are not reliable."
    listed = anomaly_table(arrays) if is_new else ""
    return f'<p class="lead">{lead}</p>{LEGEND}{spectra_html(arrays)}{listed}'


def _how_many(latents: Arrays | None) -> str:
    """Return how many of the held-out spectra are unusual, and how many would be by chance; empty if not known."""
    if latents is None or "ANOMALY_SCORE" not in latents:
        return ""
    number, unusual = num_encoded(latents), int(strangeness(latents)[1].sum())
    chance = f"{number * 10**-UNUSUAL:.2g}"
    if not unusual:
        return f"None of the {grouped(number)} is unusual: no score reaches {UNUSUAL:g}. "
    have = "has a score" if unusual == 1 else "have scores"
    return f"{grouped(unusual)} of {grouped(number)} {have} of {UNUSUAL:g} or more, where chance gives {chance}. "


def _fit(results: Results) -> str:
    latents, residuals = results[LATENTS], results.get(RESIDUALS)
    chi2 = np.asarray(latents.get("RECON_MSE", []), dtype=np.float64)

    def column(name: str) -> np.ndarray:
        return np.asarray(latents.get(name, np.full(len(chi2), np.nan)), dtype=np.float64)

    found = _pair(
        (
            "<b>χ² by S/N</b> Dots: medians of equal numbers; band: two thirds.",
            trend_figure(column("SNR"), chi2, "S/N per pixel", True),
        ),
        ("<b>χ² by redshift</b>", trend_figure(column("redshift"), chi2, "redshift")),
    )
    if residuals is not None:
        observed = (
            "<b>χ² by observed wavelength</b> Above 1 are sky residuals, wrong errors, or features not learned; "
            "a line of one bright object is enough for a peak."
        )
        rest = "<b>Stack of the residuals</b> Beyond the band are features that the model does not describe."
        for caption, html in ((observed, observed_figure(residuals)), (rest, rest_figure(residuals))):
            found += f"<figure><figcaption>{caption}</figcaption>{html}</figure>" if html else ""
    return found


def _latents(results: Results) -> str:
    latents = results[LATENTS]
    rings = " Rings: the most unusual." if strangeness(latents)[1].any() else ""
    return _pair(
        (f"<b>{grouped(num_encoded(latents))} held-out spectra</b>{rings}", latent_figure(latents)),
        ("<b>The same by class of the survey</b>", class_figure(latents)),
        ("<b>Reconstruction error (χ²)</b>", chi2_histogram(latents)),
    )


def _pair(*parts: tuple[str, str]) -> str:
    """Return figures side by side; those without a drawing are left out."""
    figures = "".join(f"<figure><figcaption>{caption}</figcaption>{html}</figure>" for caption, html in parts if html)
    return f'<div class="pair">{figures}</div>' if figures else ""


_LEAD = (
    "The held-out spectra that are least like the others, the most unusual first. A score of 3 means that one in 1,000 "
    "ordinary spectra scores as high. Poor fit: χ² is larger than that of spectra with similar S/N and redshift. Rare "
    "latents: the network can draw the spectrum, but few others look like it."
)
_LEAD_OF_FOREST = (
    "The held-out spectra that an Isolation Forest separates most easily from the others in latent space, the most "
    "anomalous first. A negative score is anomalous; a large χ² beside it says that the network could not "
    "reconstruct the spectrum."
)

PANELS = (
    Panel("reconstructions", "Reconstructions", (RECONSTRUCTIONS,), _reconstructions, wants=(LATENTS,)),
    Panel("anomalies", "Most unusual spectra", (ANOMALIES,), _anomalies, wants=(LATENTS,)),
    Panel("fit", "Where it fits", (LATENTS,), _fit, wants=(RESIDUALS,)),
    Panel("latents", "Latent space", (LATENTS,), _latents),
)
