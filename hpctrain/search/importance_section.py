"""The section of the page that says which parameters matter."""

from __future__ import annotations

from html import escape

from hpctrain.drawing.scale import grouped
from hpctrain.errors import HpctrainError
from hpctrain.search.facts import StudyFacts, short_names
from hpctrain.search.importance import FEWEST, MOST, Importance, importances
from hpctrain.search.relation_drawings import importance_figure


def importance_section(facts: StudyFacts) -> str:
    """Return a bar per parameter and objective, or why there is none."""
    if len(facts.order) < FEWEST:
        count = len(facts.order)
        reason = f"Importances need {FEWEST} finished trials or more; so far there are {count}."
        return f'<p class="empty">{reason}</p>'
    figures = []
    for index, metric in enumerate(facts.metrics):
        try:
            found = importances(facts, index)
        except HpctrainError as error:
            return f'<p class="empty">{escape(str(error))}</p>'
        figures += [_figure(facts, metric, each) for each in found]
    if not figures:
        reason = f"Importances need {FEWEST} finished trials that differ in two parameters or more."
        return f'<p class="empty">{reason}</p>'
    return f'<p class="lead">{escape(_lead(facts))}</p><div class="pair">{"".join(figures)}</div>'


def _figure(facts: StudyFacts, metric: str, found: Importance) -> str:
    text = f"where {found.where}, {found.num_trials} trials" if found.where else f"{found.num_trials} trials"
    drawn = importance_figure(found, short_names(facts.space))
    return f"<figure><figcaption><b>{escape(metric)}</b> {escape(text)}</figcaption>{drawn}</figure>"


def _lead(facts: StudyFacts) -> str:
    text = (
        "Share of the differences between finished trials that a parameter explains by itself (fANOVA: Hutter, Hoos & "
        "Leyton-Brown 2014). A forest learns the value from the parameters, so the shares of a small study are rough."
    )
    if len(facts.order) > MOST:
        text += f" {grouped(MOST)} trials, evenly spaced over the study, were used."
    return text
