"""The tables of the page of a study: the trials, and those that failed or lost their job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from hpctrain.drawing.scale import DASH, grouped, significant
from hpctrain.drawing.table import table
from hpctrain.launch.present import as_typed
from hpctrain.report.text import cut
from hpctrain.search.describe import shown
from hpctrain.search.facts import StudyFacts, short_names, state_css
from hpctrain.search.trials import PRUNED, Trial, is_running
from hpctrain.words import format_duration

MOST_ROWS = 100
"""Largest number of rows of a table."""
_OPEN_ROWS = 20
"""Rows that are seen without unfolding."""
_MOST_COLUMNS = 5
"""Largest number of parameters with a column each."""
_LISTED = 12
"""Trials with the same reason that are listed by number."""


def trials_table(facts: StudyFacts, folder: Path) -> str:
    """Return the ranked trials: the finished ones, then running and pruned ones."""
    running = [trial for trial in facts.trials if is_running(trial)]
    pruned = sorted((trial for trial in facts.trials if trial.state == PRUNED), key=lambda trial: -trial.step)
    chosen = [*facts.order[:MOST_ROWS], *running]
    chosen = [*chosen, *pruned][: max(MOST_ROWS, len(facts.order[:MOST_ROWS]))]
    total = len(facts.order) + len(running) + len(pruned)
    if not chosen:
        return '<p class="empty">No trial has started yet.</p>'
    ranks = {trial.number: place + 1 for place, trial in enumerate(facts.order)}
    heads, keys = _heads(facts)
    rows = [_row(facts, trial, ranks.get(trial.number), keys, folder) for trial in chosen]
    shown_rows, more = rows[:_OPEN_ROWS], rows[_OPEN_ROWS:]
    text = table(heads, shown_rows)
    if more:
        summary = f"{len(more)} more trials"
        text += f'<details class="figures"><summary>{summary}</summary>{table(heads, more)}</details>'
    if len(chosen) < total:
        note = f"{len(chosen)} of {grouped(total)} trials. All of them: "
        text += f'<p class="note">{note}<code>hpctrain search status --json</code></p>'
    return f'{text}<p class="note">{escape(_next_step(facts))}</p>' if facts.best else text


def _next_step(facts: StudyFacts) -> str:
    path = as_typed(facts.study.path)
    return f"The profile of the best trial, ready to submit: hpctrain search best {path} --out best.yaml"


def _heads(facts: StudyFacts) -> tuple[list[str], list[str]]:
    keys = [parameter.key for parameter in facts.space.parameters]
    names = short_names(facts.space)
    columns = [names[key] for key in keys] if len(keys) <= _MOST_COLUMNS else ["Values"]
    rank = "Rank" if facts.is_single else "Best"
    hours = facts.hours[0].upper() + facts.hours[1:]
    return [rank, "Trial", "State", *facts.metrics, *columns, "Steps", hours, "Lasted"], keys


def _row(facts: StudyFacts, trial: Trial, rank: int | None, keys: Sequence[str], folder: Path) -> list[str]:
    front = {one.number for one in facts.front} if not facts.is_single else set()
    place = str(rank or DASH) if facts.is_single else ("yes" if trial.number in front else DASH)
    scores = [significant(score) for score in trial.scores or []]
    scores += [DASH] * (len(facts.metrics) - len(scores))
    if len(keys) <= _MOST_COLUMNS:
        values = [escape(shown(trial.values[key])) if key in trial.values else DASH for key in keys]
    else:
        names = short_names(facts.space)
        values = [", ".join(escape(f"{names.get(key, key)} {shown(value)}") for key, value in trial.values.items())]
    steps = grouped(trial.step)
    steps += f" of {grouped(trial.total_steps)}" if trial.total_steps > trial.step else ""
    lasted = format_duration(trial.ended_at - trial.asked_at) if trial.ended_at and trial.asked_at else DASH
    name, hours = _name(facts, trial, folder), significant(trial.gpu_hours)
    return [place, name, escape(trial.state), *scores, *values, steps, hours, escape(lasted)]


def _name(facts: StudyFacts, trial: Trial, folder: Path) -> str:
    """Return the number of a trial, with a link to the report of its run if there is one."""
    report = facts.study.trial(trial.number).report
    text = f'<span class="pill {state_css(trial)}">{trial.number}</span>'
    if not report.exists():
        return text
    link = quote(os.path.relpath(report, folder))
    return f'<a href="{escape(link)}">{text}</a>'


def gone_table(facts: StudyFacts, folder: Path) -> str:
    """Return the trials that failed, diverged or were given back, those with one reason together."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in facts.gone():
        groups.setdefault((trial.state, cut(trial.reason) or "no reason was recorded"), []).append(trial)
    if not groups:
        return ""
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    rows = [
        [_pills(facts, trials, folder), escape(state), escape(reason), _log_of(facts, trials[0])]
        for (state, reason), trials in ordered[:MOST_ROWS]
    ]
    rest = sum(len(trials) for _, trials in ordered[MOST_ROWS:])
    note = f'<p class="note">{grouped(rest)} more, each with another reason.</p>' if rest else ""
    return table(["Trials", "State", "Reason", "Log"], rows) + note


def _pills(facts: StudyFacts, trials: Sequence[Trial], folder: Path) -> str:
    listed = " ".join(str(trial.number) for trial in trials[:_LISTED])
    more = f"<small>and {grouped(len(trials) - _LISTED)} more</small>" if len(trials) > _LISTED else ""
    if len(trials) == 1:
        return _name(facts, trials[0], folder)
    return f'<span class="pill {state_css(trials[0])}">{grouped(len(trials))}</span> {listed}{more}'


def _log_of(facts: StudyFacts, trial: Trial) -> str:
    return f"<code>{escape(f'hpctrain logs {as_typed(facts.study.trial(trial.number).path)}')}</code>"
