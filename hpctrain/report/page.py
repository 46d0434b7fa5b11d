"""Render the page: sections in the order of a reader's questions, in one self-contained file."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

from hpctrain.drawing.scale import DASH, grouped
from hpctrain.drawing.table import table
from hpctrain.errors import EXIT_REQUEUE
from hpctrain.metrics.events import Finished, Started
from hpctrain.report.advice import advice_section
from hpctrain.report.alerts import alerts_section
from hpctrain.report.attempts import Attempt
from hpctrain.report.caveats import caveats_of
from hpctrain.report.curves import loss_figure, small_figures
from hpctrain.report.document import Head, moment, render_document
from hpctrain.report.family import draw_panels
from hpctrain.report.gather import RunFacts
from hpctrain.report.highlight import highlight_shell, highlight_yaml
from hpctrain.report.machine import machine_section
from hpctrain.report.summary import (
    FOLLOWED,
    checkpoint_summary,
    key_numbers,
    num_gpus,
    sentence,
    state_of,
)
from hpctrain.report.text import cut
from hpctrain.report.timeline import OUTCOME_CSS, SIGNS, timeline_figure
from hpctrain.report.trace import trace_section
from hpctrain.report.validation import validation_section
from hpctrain.words import format_bytes, format_duration

MOST_ATTEMPTS = 60
"""Largest number of rows of the table of attempts; of more attempts, the page shows the first and the last."""


OPEN_ATTEMPTS = 8
"""Largest number of attempts whose table is unfolded."""


def render_page(facts: RunFacts) -> str:
    """Return the report of a run as one HTML document."""
    sections = _sections(facts)
    # The caveats come last: they include what could not be drawn.
    numbers, result = key_numbers(facts), sentence(facts)
    warnings = _caveats(facts)
    state = state_of(facts)
    shown = "".join(
        f"<div><dt>{escape(n.label)}</dt><dd>{escape(n.value)}</dd><dd>{escape(n.remark)}</dd></div>" for n in numbers
    )
    head = Head(
        kind="Training run",
        name=escape(str(facts.job.get("name") or facts.run.name)),
        place=escape(facts.run.run_id),
        sentence=_with_code(result),
        state=f' <span class="state {state.replace(" ", "-")}">{state}</span>',
        description=_description(facts),
    )
    footer = f"{moment(facts.now)} · {facts.run.path}"
    return render_document(head, sections, footer, f'<dl class="numbers">{shown}</dl>', warnings)


def _sections(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Return key, title and HTML of each section; an empty one is left out."""
    return [
        ("training", "Training", _training(facts)),
        ("validation", "Validation", validation_section(facts.validation)),
        ("attempts", "Attempts", _attempts(facts)),
        ("trace", "Time of a step", trace_section(facts)),
        ("alerts", "Alerts", alerts_section(facts)),
        ("machine", "Energy and heat", _machine(facts)),
        *draw_panels(facts.model),
        ("profile", "Profile", _profile(facts)),
        ("provenance", "Provenance", _provenance(facts)),
        ("advice", "Advice", advice_section(facts)),
    ]


def _description(facts: RunFacts) -> str:
    match = re.search(r"^description:[ \t]*(\S.*)$", facts.profile_text, re.MULTILINE)
    text = match[1].strip().strip("'\"") if match else ""
    return f'<p class="description">{escape(text)}</p>' if text else ""


def _caveats(facts: RunFacts) -> str:
    found = caveats_of(facts)
    if not found:
        return ""
    shown = "".join(f"<li>{_with_code(text)}</li>" for text in found[:12])
    more = f"<li>and {len(found) - 12} more, in metrics.jsonl</li>" if len(found) > 12 else ""
    title = "One thing to know" if len(found) == 1 else f"{len(found)} things to know"
    return f'<aside class="warnings"><h2>{title}</h2><ul>{shown}{more}</ul></aside>'


def _training(facts: RunFacts) -> str:
    loss = loss_figure(facts)
    if not loss:
        return '<p class="empty">Nothing has been recorded yet.</p>'
    small = "".join(
        f"<figure><figcaption><b>{escape(title)}</b></figcaption>{html}</figure>"
        for title, html in small_figures(facts)
    )
    curve = facts.model.family.loss
    caption = f"<b>{escape(curve.title)}</b> {escape(curve.caption)}".rstrip()
    return f'<figure><figcaption>{caption}</figcaption>{loss}</figure><div class="pair">{small}</div>'


def _attempts(facts: RunFacts) -> str:
    if not facts.attempts:
        return ""
    rows = facts.attempts
    cut_short = len(rows) > MOST_ATTEMPTS
    shown = [*rows[: MOST_ATTEMPTS // 2], *rows[-MOST_ATTEMPTS // 2 :]] if cut_short else rows
    heads = ["Attempt", "Began", "Lasted", "Where", "Steps", "Ended by", "Lost"]
    note = f'<p class="note">{len(rows) - len(shown)} attempts in between are not shown.</p>' if cut_short else ""
    caption = f"<b>Time line</b> {escape(checkpoint_summary(facts))}"
    listed = f"{table(heads, [_attempt_cells(attempt) for attempt in shown])}{note}"
    if len(rows) > OPEN_ATTEMPTS:
        listed = f'<details class="figures"><summary>All {len(rows)} attempts</summary>{listed}</details>'
    return f"<figure><figcaption>{caption}</figcaption>{timeline_figure(facts)}</figure>{listed}"


def _attempt_cells(attempt: Attempt) -> list[str]:
    css = OUTCOME_CSS[attempt.outcome]
    job = f"job {attempt.job_id}" if attempt.job_id else "no job"
    where = f"{attempt.world_size} × {attempt.device or 'rank'}"
    return [
        f'<span class="pill {css}">{attempt.number} {SIGNS[css]}</span>',
        f"{escape(moment(attempt.started_at))}<small>{escape(job)}</small>",
        escape(format_duration(attempt.seconds)),
        f"{escape(where)}<small>{escape(cut(attempt.hosts))}</small>",
        _steps_text(attempt),
        f"{escape(cut(attempt.cause))}<small>{escape(_exit_text(attempt))}</small>",
        grouped(attempt.steps_lost) if attempt.steps_lost else DASH,
    ]


def _steps_text(attempt: Attempt) -> str:
    if attempt.last_step > attempt.first_step:
        return f"{grouped(attempt.first_step)} – {grouped(attempt.last_step)}"
    return f"none, at {grouped(attempt.first_step)}" if attempt.first_step else "none"


def _exit_text(attempt: Attempt) -> str:
    if attempt.exit_code is None:
        return "" if attempt.outcome == "running" else attempt.outcome
    guess = "requeued" if attempt.exit_code == EXIT_REQUEUE else ""
    followed = FOLLOWED.get(attempt.followed, guess if not attempt.followed else "")
    return f"exit code {attempt.exit_code}" + (f", {followed}" if followed else "")


def _machine(facts: RunFacts) -> str:
    history = facts.history
    one, gpus = facts.model.one, num_gpus(facts.profile_text)
    return machine_section(history.monitor, history.events, facts.ranks, facts.num_samples, one, gpus)


def _profile(facts: RunFacts) -> str:
    parts = []
    if facts.profile_text:
        parts.append(
            "<details><summary>profile.yaml with all defaults: the only configuration that the trainer read</summary>"
            f"<pre>{highlight_yaml(facts.profile_text)}</pre></details>"
        )
    if facts.script_text:
        parts.append(
            f"<details><summary>job.sh, the batch script</summary><pre>{highlight_shell(facts.script_text)}</pre>"
            "</details>"
        )
    return "".join(parts)


def _provenance(facts: RunFacts) -> str:
    known = dict(facts.provenance)
    if not known and not facts.job:
        return ""
    rows, folded = [], []
    submitted = facts.submitted_at
    rows.append(("Submitted", moment(submitted) if submitted else DASH))
    rows.append(("Cluster", str(facts.job.get("cluster") or DASH)))
    for key in ("command", "user", "host", "system", "python", "hpctrain"):
        if known.get(key):
            rows.append((key.capitalize() if key != "hpctrain" else key, _words(known[key])))
    for key, title in (("code", "Code"), ("project", "Project")):
        git = (known.get(key) or {}).get("git") if isinstance(known.get(key), dict) else None
        if isinstance(git, dict):
            rows.append((title, _git_text(git)))
            if git.get("diff"):
                folded.append((f"Uncommitted changes, {title.lower()}", str(git["diff"])))
    if isinstance(known.get("packages"), dict):
        rows.append(("Packages", ", ".join(f"{name} {version}" for name, version in known["packages"].items())))
    main = facts.model.kind.main_columns
    for data in known.get("data") or []:
        if isinstance(data, dict) and data.get("path"):
            size = f", {format_bytes(data['bytes'])}" if data.get("bytes") else ""
            columns = data.get("columns") if isinstance(data.get("columns"), dict) else {}
            sums = "".join(f", {name} {str(columns[name])[:12]}" for name in main if columns.get(name))
            hashed = f"; SHA-256 {data['hashes']}{sums}" if data.get("hashes") else ""
            rows.append(("Data", f"{data['path']}{size}{hashed}"))
    started, finished = facts.history.newest(Started), facts.history.newest(Finished)
    if started and started.num_parameters:
        rows.append(("Parameters", grouped(started.num_parameters)))
    if finished and finished.sha256:
        rows.append(("Model, SHA-256", finished.sha256))
    folded.append(("provenance.json", json.dumps(known, indent=2, ensure_ascii=False)))
    body = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in rows)
    details = "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>" for title, text in folded
    )
    facts_table = (
        "<details><summary>User, machine, command, code and data of the submission</summary>"
        f'<table class="facts"><tbody>{body}</tbody></table></details>'
    )
    return f"{facts_table}{details}"


def _git_text(git: dict[str, Any]) -> str:
    changed = ", with uncommitted changes" if git.get("dirty") else ""
    return f"{git.get('commit', '?')} on {git.get('branch', '?')}{changed}"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _with_code(text: str) -> str:
    """Return a text as HTML with commands and keys in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
