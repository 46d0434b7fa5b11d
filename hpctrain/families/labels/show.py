"""What the report shows of predicted labels: cards, confusion, predicted against true values, residuals, PIT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from hpctrain.drawing.scale import grouped, significant
from hpctrain.families.labels.drawing import confusion_table, is_relative, pit_figure, residual_figure, truth_figure
from hpctrain.families.labels.scores import scores_of
from hpctrain.families.predictions_panel import FILE, PREDICTIONS
from hpctrain.families.result_files import Arrays, UnusableResultsError
from hpctrain.families.shown import FEW_HELD_OUT, Card, Panel

Results = Mapping[str, Arrays]

MOST_CARDS = 4
"""Largest number of labels with a card at the top of the report."""


def titles_of(columns: Arrays) -> Iterator[str]:
    """Yield the titles of the labels that predictions are compared with.

    Raises
    ------
    UnusableResultsError
        The columns do not fit together.
    """
    for name in columns:
        title = name.removesuffix("_TRUE")
        if title == name or f"{title}_PRED" not in columns:
            continue
        own = [values for other, values in columns.items() if other.startswith(f"{title}_")]
        if len({len(values) for values in own if values.ndim}) != 1:
            raise UnusableResultsError(f"is damaged: the columns of {title} have different lengths")
        yield title


def cards(evaluation: Mapping[str, Any], held_out: str, results: Results) -> list[Card]:
    """Return a card for each of the first labels: accuracy of a class, scatter of a number."""
    columns = results.get(FILE)
    found = []
    for title in list(titles_of(columns))[:MOST_CARDS] if columns else []:
        scores = scores_of(columns, title)
        if "accuracy" in scores:
            value = f"{100 * scores['accuracy']:.1f} %"
            found.append(Card(f"{title}: right", value, f"macro-F1 {scores['macro_f1']:.3f}, {grouped(scores['num'])}"))
        elif scores:
            remark = f"bias {significant(scores['bias'])}, outliers {100 * scores['outliers']:.1f} %"
            found.append(Card(f"{title}: scatter (NMAD)", significant(scores["nmad"]), remark))
    if not found and (loss := evaluation.get("loss")) is not None:
        found.append(Card("Loss", significant(loss), f"mean of {held_out}"))
    return found


def fit_sentence(evaluation: Mapping[str, Any], held_out: str, results: Results) -> str:
    """Return one sentence on the labels of the held-out samples."""
    columns = results.get(FILE)
    parts = []
    for title in list(titles_of(columns))[:MOST_CARDS] if columns else []:
        scores = scores_of(columns, title)
        if "accuracy" in scores:
            parts.append(f"{title} is right for {100 * scores['accuracy']:.1f} %")
        elif scores:
            parts.append(f"the scatter (NMAD) of {title} is {scores['nmad']:.3g}")
    if not parts:
        return f"The loss on {held_out} is {evaluation['loss']:.4g}."
    listed = "; ".join(parts)
    return f"On {held_out}: {listed}."


def _classes(results: Results) -> str:
    columns = results[FILE]
    parts = []
    for title in titles_of(columns):
        scores = scores_of(columns, title)
        if "accuracy" not in scores:
            continue
        caption = (
            f"<b>{escape(title)}</b> accuracy {scores['accuracy']:.3f}, macro-F1 {scores['macro_f1']:.3f}, log loss "
            f"{scores['log_loss']:.3f} on {grouped(scores['num'])} held-out samples{_few(scores['num'])}"
        )
        table = confusion_table(columns[f"{title}_PRED"], columns[f"{title}_TRUE"])
        parts.append(f"<figure><figcaption>{caption}</figcaption>{table}</figure>")
    return "".join(parts)


def _values(results: Results) -> str:
    columns = results[FILE]
    parts = []
    for title in titles_of(columns):
        scores = scores_of(columns, title)
        if "nmad" not in scores:
            continue
        figures = [
            (f"<b>{escape(title)}</b> {_numbers(scores, _relative(columns, title))}", truth_figure(columns, title)),
            ("<b>Residuals</b>", residual_figure(columns, title)),
            (f"<b>Calibration</b> {_pit_words(columns, title)}", pit_figure(columns, title)),
        ]
        drawn = "".join(f"<figure><figcaption>{head}</figcaption>{html}</figure>" for head, html in figures if html)
        parts.append(f'<div class="pair">{drawn}</div>')
    return "".join(parts)


def _numbers(scores: Mapping[str, float], relative_to: str) -> str:
    return (
        f"{relative_to}bias {scores['bias']:.3g}, NMAD {scores['nmad']:.3g}, rms {scores['rmse']:.3g}, outliers "
        f"{100 * scores['outliers']:.1f} % of {grouped(scores['num'])} held-out samples{_few(int(scores['num']))}"
    )


def _relative(columns: Arrays, title: str) -> str:
    return f"residuals divided by 1 + {escape(title)}: " if is_relative(columns, title) else ""


def _pit_words(columns: Arrays, title: str) -> str:
    if f"{title}_PIT" not in columns:
        return ""
    return "probability below the true value (PIT): flat if the uncertainties are right; fitted to these samples"


def _few(number: int) -> str:
    return "; too few for a reliable number" if number < FEW_HELD_OUT else ""


PANELS = (
    Panel("classes", "Classes", (FILE,), _classes),
    Panel("values", "Predicted and true values", (FILE,), _values),
    PREDICTIONS,
)
