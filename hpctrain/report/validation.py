"""The section of the report that says how good the model is: gates, metrics with intervals, figures."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pydantic import ValidationError

from hpctrain.drawing.described.draw import draw_figures
from hpctrain.drawing.described.figure import Figure
from hpctrain.drawing.scale import DASH, grouped, significant, with_interval
from hpctrain.drawing.table import table
from hpctrain.files import read_text
from hpctrain.records import parse_json
from hpctrain.report.text import cut
from hpctrain.report.validation_file import Gate, MetricScore, TaskScores, ValidationFile, is_part, read_validation

_LARGEST = 1 << 27
"""Largest size of the file to read [byte]."""
_VERDICTS = {True: ("good", "✓ kept"), False: ("bad", "✕ failed")}
_BETTER = {"lower": "low", "higher": "high", "zero": "near 0"}


def find_validation(path: Path, unreadable: list[str]) -> ValidationFile | None:
    """Read ``results/validation.json``; None if it is absent. What cannot be read is added to `unreadable`."""
    try:
        return read_validation(parse_json(read_text(path, _LARGEST)))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"is damaged or of another version ({where}: {cut(first['msg'])}); make it anew with hpctrain validate"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError as error:
        reason = f"is damaged: {error}"
    unreadable.append(f"results/{path.name} {reason}")
    return None


def validation_caveats(found: ValidationFile | None, sha256: str | None) -> list[str]:
    """Return what a reader must know first: gates that are not kept, and numbers of another model.

    Parameters
    ----------
    found : ValidationFile or None
    sha256 : str or None
        Of the model's file, as the run recorded it at its end.
    """
    if found is None:
        return []
    texts = [f"A gate failed: {gate.asked}: {gate.said}." for gate in found.gates if not gate.passed]
    if sha256 and found.model_sha256 and sha256 != found.model_sha256:
        texts.append(
            "The section Validation is about an earlier model of this run: the model was written anew after it was "
            "judged. `hpctrain validate` judges it again."
        )
    return texts


def validation_section(found: ValidationFile | None) -> str:
    """Return the section as HTML; empty if the run has not been judged."""
    if found is None:
        return ""
    share = f"{100 * found.confidence:g} %"
    objects = grouped(found.num_objects)
    rows = "" if found.num_rows == found.num_objects else f" ({grouped(found.num_rows)} rows)"
    lead = (
        f'<p class="lead">On {objects} held-out objects{rows}. An interval holds the value of the whole population '
        f"in {share} of all samples; all rows of an object count as one draw.</p>"
    )
    parts = [lead, _gates(found.gates)]
    rest = list(found.figures)
    for title, task in found.tasks.items():
        own = [figure for figure in rest if figure.key.split(".", 1)[0] == title]
        rest = [figure for figure in rest if figure not in own]
        parts.append(f"<h3>{escape(title)}</h3>{_metrics(task, share)}{draw_figures(own)}")
    return "".join([*parts, _others(rest)])


def _others(figures: list[Figure]) -> str:
    return f"<h3>More</h3>{draw_figures(figures)}" if figures else ""


def _gates(gates: list[Gate]) -> str:
    if not gates:
        return ""
    heads = ["Gate", "Asked", "Found", "Distance to the limit", "Objects"]
    rows = []
    for gate in gates:
        css, sign = _VERDICTS[gate.passed]
        pill = f'<span class="pill {css}">{sign}</span>'
        judged = [check for check in gate.checks if check.judged]
        worst = min(judged, key=lambda check: float("-inf") if check.by is None else check.by, default=None)
        if worst is None:
            rows.append([pill, escape(gate.asked), escape(gate.said), DASH, DASH])
            continue
        value, between = _rounded(worst.value, worst.low, worst.high)
        place = f"<small>{escape(worst.place)}</small>" if len(gate.checks) > 1 else ""
        found = f"{value}<small>{between}</small>{place}"
        by = DASH if worst.by is None else f"{significant(abs(worst.by))} {'inside' if worst.by > 0 else 'beyond'}"
        rows.append([pill, escape(gate.asked), found, by, grouped(worst.num_objects)])
    kept = sum(gate.passed for gate in gates)
    caption = f"<b>Gates</b> {kept} of {len(gates)} kept. Of a gate on bins the table has the worst bin."
    return f"<figure><figcaption>{caption}</figcaption>{table(heads, rows)}</figure>{_bins(gates)}"


def _bins(gates: list[Gate]) -> str:
    """Return the bins of the gates that have some, folded."""
    rows = []
    for gate in gates:
        for check in gate.checks if len(gate.checks) > 1 else ():
            css, sign = _VERDICTS[check.passed] if check.judged else ("held", "too few")
            value, between = _rounded(check.value, check.low, check.high)
            rows.append([
                escape(gate.asked),
                escape(check.place),
                f"{value}<small>{between}</small>",
                grouped(check.num_objects),
                f'<span class="pill {css}">{sign}</span>',
            ])  # fmt: skip
    if not rows:
        return ""
    heads = ["Gate", "Bin", "Found", "Objects", ""]
    return f'<details class="figures"><summary>All bins of the gates</summary>{table(heads, rows)}</details>'


def _metrics(task: TaskScores, share: str) -> str:
    """Return a table of the metrics; those of single parts, such as classes, are folded."""
    whole = {name: metric for name, metric in task.metrics.items() if not is_part(name)}
    parts = {name: metric for name, metric in task.metrics.items() if is_part(name)}
    shown = _metric_table(whole, share)
    if parts:
        title = f"{len(parts)} metrics of single parts"
        shown += f'<details class="figures"><summary>{title}</summary>{_metric_table(parts, share)}</details>'
    return shown


def _metric_table(metrics: dict[str, MetricScore], share: str) -> str:
    rows = []
    for name, metric in metrics.items():
        value, between = _rounded(metric.value, metric.low, metric.high)
        unit = f" {escape(metric.unit)}" if metric.unit and metric.value is not None else ""
        note = f"<small>{escape(metric.note)}</small>" if metric.note else ""
        label = f'<span title="{escape(metric.description)}">{escape(metric.label)}</span> <code>{escape(name)}</code>'
        rows.append([label, f"{value}{unit}", f"{between}{note}", grouped(metric.n), escape(_BETTER[metric.better])])
    heads = ["Metric", "Value", f"{share} interval", "Objects", "Good"]
    return f"<figure>{table(heads, rows)}</figure>" if rows else ""


def _rounded(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """Return a number and its interval in words."""
    shown, below, above = with_interval(value, low, high)
    return shown, DASH if low is None or high is None else f"{below} to {above}"
