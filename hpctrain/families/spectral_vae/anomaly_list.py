"""The list of unusual objects as HTML: name, position, score, its parts, the reason, and web pages. No torch here."""

from __future__ import annotations

from html import escape

import numpy as np

from hpctrain.drawing.scale import DASH, grouped
from hpctrain.drawing.table import table
from hpctrain.families.result_files import Arrays
from hpctrain.families.spectral_vae.anomaly_reference import NOT_SCORED, REASON
from hpctrain.families.spectral_vae.figures import row_of
from hpctrain.kinds.spectra.objects import Link, describe_object

_MOST_CHANCES = 1e6
"""Largest number in "1 in ..."; the tail of ordinary objects is not known any better."""


def anomaly_table(arrays: Arrays) -> str:
    """Return the table of the objects in ``anomalies.npz``, or of rows of a catalogue, in their order.

    Parameters
    ----------
    arrays : mapping
        ``target_id``, ``redshift``, ``anomaly_score``, ``local_chi2``, ``latent_density``, ``anomaly_reason`` (n,), the
        columns of the survey with their prefix, and if known ``chi2``, ``snr``, ``interest``, ``priority`` (n,).
    """
    count = len(arrays["target_id"])
    heads = ["", "Object", "z", "Score", "False alarm", "Local χ²", "Log density", "χ²", "S/N", "Reason"]
    rated = "priority" in arrays
    heads += ["Interest", "Priority"] if rated else []
    rows = []
    for row in range(count):
        one = row_of({name: values for name, values in arrays.items() if len(np.atleast_1d(values)) == count}, row)
        known = describe_object(one)
        cells = [
            str(row + 1),
            f"{escape(known.name)}<small>{escape(' · '.join(known.facts))}{link_html(known.links)}</small>",
            grouped(float(one["redshift"]), 4),
            _number(one.get("anomaly_score"), 2),
            escape(false_alarm(float(one["anomaly_score"]))),
            f"{_number(one.get('local_chi2'), 1)} σ",
            _number(one.get("latent_density"), 1),
            _number(one.get("chi2"), 2),
            _number(one.get("snr"), 1),
            escape(reason_of(one)),
        ]
        cells += [_number(one["interest"], 0), _number(one["priority"], 2)] if rated else []
        rows.append(cells)
    return table(heads, rows)


def false_alarm(score: float) -> str:
    """Return a score in words: how many ordinary objects there are for one that scores as high."""
    if not np.isfinite(score):
        return DASH
    chances = 10.0 ** min(max(score, 0.0), 300.0)
    if chances > _MOST_CHANCES:
        return "less than 1 in a million"
    digits = 10 ** max(int(np.log10(chances)) - 1, 0)
    return f"1 in {grouped(round(chances / digits) * digits)}"


def reason_of(spectrum: Arrays) -> str:
    """Return the reason of one object in words."""
    return REASON.get(int(spectrum.get("anomaly_reason", NOT_SCORED)), REASON[NOT_SCORED])


def link_html(links: list[Link]) -> str:
    """Return links with which the browser does not send the address of this file to the page."""
    return "".join(
        f' · <a href="{escape(link.address)}" target="_blank" rel="noopener noreferrer">{escape(link.text)}</a>'
        for link in links
    )


def _number(value: object, decimals: int) -> str:
    number = float(np.nan if value is None else value)
    return grouped(number, decimals) if np.isfinite(number) else DASH
