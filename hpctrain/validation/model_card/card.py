"""Put the parts of a model card together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpctrain.profile.lookup import find_family
from hpctrain.profile.schema import Profile
from hpctrain.report.gather import gather_facts
from hpctrain.report.validation_file import ValidationFile
from hpctrain.validation.judged import Judged
from hpctrain.validation.model_card import records, scores
from hpctrain.validation.model_card.front import front_matter
from hpctrain.validation.model_card.markdown import escaped
from hpctrain.validation.model_card.subgroups import subgroup_lines
from hpctrain.validation.tasks.values import REDSHIFT, VALUE


def model_card(judged: Judged, profile: Profile, found: ValidationFile) -> str:
    """Return the model card of a run in Markdown: the same text for the same run, whenever it is made.

    What is measured and recorded is filled in. What only a person knows comes from `validate.card` of the profile; the
    card says where it is missing.

    Parameters
    ----------
    judged : Judged
    profile : Profile
        Of the run.
    found : ValidationFile
        What validation measured.

    References
    ----------
    .. [1] Mitchell et al. 2019, Model cards for model reporting, FAT*, arXiv:1810.03993.
    """
    kind = str(judged.card.get("kind") or "")
    lines = [
        *front_matter(profile, kind, found),
        "",
        f"# {escaped(profile.name)}",
        "",
        escaped(profile.description),
        "",
    ]
    for title, body in _sections(judged, profile, found):
        if body:
            lines += [f"## {title}", "", *body, ""]
    return _tidy(lines)


def _sections(judged: Judged, profile: Profile, found: ValidationFile) -> list[tuple[str, list[str]]]:
    """Return title and lines of each section; one without lines is left out."""
    facts = gather_facts(judged.run)
    columns = find_family(found.family).columns_of(judged.card)
    return [
        ("Model", records.model_lines(profile, facts, judged.card, found)),
        ("Intended use", records.use_lines(profile)),
        ("Data", records.data_lines(profile, facts, judged.card, found)),
        ("What it predicts", records.output_lines(columns, list(judged.columns))),
        ("Metrics", scores.metric_lines(found)),
        ("Subgroups", subgroup_lines(found)),
        ("Calibration", scores.calibration_lines(found)),
        ("Gates", scores.gate_lines(found)),
        ("Limits", scores.limit_lines(found, true_ranges(judged))),
        ("Cost of the training", records.cost_lines(facts)),
        ("Provenance", records.provenance_lines(facts)),
        ("How to load it", scores.load_lines()),
        ("References", scores.reference_lines(found)),
    ]


def true_ranges(judged: Judged) -> Mapping[str, tuple[float, float]]:
    """Return the lowest and the highest true value of each task with numbers."""
    found = {}
    for task in judged.tasks:
        true = task.arrays.get("true")
        if true is not None and task.kind in (VALUE, REDSHIFT) and task.known.any():
            values = np.asarray(true[task.known], dtype=np.float64)
            found[task.title] = float(values.min()), float(values.max())
    return found


def _tidy(lines: list[str]) -> str:
    """Return the text with at most one empty line in a row."""
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).rstrip() + "\n"
