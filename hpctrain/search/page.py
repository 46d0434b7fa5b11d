"""The page of a study that ``hpctrain search report`` writes: one self-contained HTML file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hpctrain.credentials.urls import without_logins
from hpctrain.drawing.scale import grouped, significant
from hpctrain.drawing.svg import legend
from hpctrain.launch.present import as_typed
from hpctrain.report.document import Head, moment, render_document, write_document
from hpctrain.report.highlight import highlight_yaml
from hpctrain.search.describe import shown
from hpctrain.search.facts import StudyFacts, at_the_edge, facts_of, saved_by_pruning
from hpctrain.search.folder import StudyDir
from hpctrain.search.page_tables import gone_table, trials_table
from hpctrain.search.trials import DIVERGED, GIVEN_BACK, PRUNED, WAITING, Trial, is_running
from hpctrain.search.value_drawings import SLICE_LEGEND, curves_figure, history_figure, slices
from hpctrain.states import FAILED, FINISHED


def write_page(study: StudyDir, trials: Sequence[Trial], path: Path, now: float | None = None) -> Path:
    """Write the page of a study, whole or not at all.

    Parameters
    ----------
    study : StudyDir
    trials : sequence of Trial
        All trials by number.
    path : Path
    now : float, optional
        Seconds since 1970; the current time by default.

    Returns
    -------
    Path
        Absolute path of the file.

    Raises
    ------
    ProfileError
        The file cannot be written.
    """
    now = time.time() if now is None else now
    return write_document(path, render_page(facts_of(study, trials, now), path.absolute().parent))


def render_page(facts: StudyFacts, folder: Path) -> str:
    """Return the page as HTML; links to the reports of trials are relative to `folder`."""
    head = Head(
        kind="Hyper-parameter search",
        name=escape(facts.section.name),
        place=escape(facts.study.id),
        sentence=escape(_sentence(facts)),
        state=_state(facts),
        description=f'<p class="description">{escape(facts.section.description)}</p>' * bool(facts.section.description),
    )
    sections = [
        ("history", "History", _history(facts)),
        ("curves", "During training", _curves(facts)),
        ("pareto", "Trade-offs", _pareto(facts)),
        ("slices", "Value against each parameter", _slices(facts)),
        ("parallel", "Parallel coordinates", _parallel(facts)),
        ("importance", "Importance", _importance(facts)),
        ("trials", "Trials", trials_table(facts, folder)),
        ("gone", "Failed and given back", gone_table(facts, folder)),
        ("file", "Study file", _files(facts)),
    ]
    footer = f"{moment(facts.now)} · {facts.study.path}"
    return render_document(head, sections, footer, _numbers(facts), _warnings(facts))


def _state(facts: StudyFacts) -> str:
    """Return the label beside the name: what the study as a whole does."""
    if any(is_running(trial) for trial in facts.trials):
        state = "running"
    elif facts.study.stop.exists():
        state = "stopped"
    elif any(trial.state in (WAITING, *GIVEN_BACK) for trial in facts.trials):
        state = "not complete"
    else:
        state = "finished"
    return f' <span class="state {state.replace(" ", "-")}">{state}</span>'


def _sentence(facts: StudyFacts) -> str:
    counts = facts.counts()
    done = f"{grouped(counts[FINISHED])} of {grouped(len(facts.trials))} trials have finished"
    if counts[PRUNED]:
        done += f" and {grouped(counts[PRUNED])} were pruned"
    if facts.best is None:
        return f"{done}. There is no best trial yet."
    if not facts.is_single:
        return f"{done}. No other beats {_trials(len(facts.front))} in all of {', '.join(facts.metrics)}."
    values = ", ".join(f"{key} = {shown(value)}" for key, value in facts.best.values.items())
    return (
        f"{done}. The best is trial {facts.best.number} with {facts.metrics[0]} {significant(_score(facts.best))}: "
        f"{values}."
    )


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{grouped(count)} trials"


def _score(trial: Trial) -> float:
    return trial.scores[0]  # type: ignore[index]


def _numbers(facts: StudyFacts) -> str:
    cards = [_best_card(facts), _count_card(facts), *_cost_cards(facts)]
    body = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd>{escape(remark)}</dd></div>"
        for label, value, remark in cards
    )
    return f'<dl class="numbers">{body}</dl>'


def _best_card(facts: StudyFacts) -> tuple[str, str, str]:
    if facts.best is None:
        return "Best trial", "–", "none has finished"
    if not facts.is_single:
        return "Trade-offs", grouped(len(facts.front)), "trials that no other beats in all objectives"
    direction = "lower is better" if facts.lower_is_better[0] else "higher is better"
    return f"Best {facts.metrics[0]}", significant(_score(facts.best)), f"trial {facts.best.number}; {direction}"


def _count_card(facts: StudyFacts) -> tuple[str, str, str]:
    counts = facts.counts()
    rest = ", ".join(f"{grouped(count)} {state}" for state, count in counts.most_common() if state != FINISHED)
    value = f"{grouped(counts[FINISHED])} of {grouped(len(facts.trials))}"
    return "Finished trials", value, rest


def _cost_cards(facts: StudyFacts) -> list[tuple[str, str, str]]:
    hours, kwh = facts.spent()
    budget = facts.section.budget.gpu_hours
    energy = f"{significant(kwh)} kWh" if kwh is not None else "energy was not measured"
    remark = f"of {budget:g} in the budget; {energy}" if budget else energy
    cards = [(f"{facts.hours[0].upper()}{facts.hours[1:]} spent", significant(hours), remark)]
    saved = saved_by_pruning(facts.trials)
    if saved.trials:
        share = f"{100 * saved.hours / (hours + saved.hours):.0f} % of what all would have cost" if hours else ""
        extra = f"{significant(saved.kwh)} kWh; " if saved.kwh is not None else ""
        cards.append(("Saved by pruning, about", significant(saved.hours), f"{facts.hours}; {extra}{share}"))
    else:
        name = facts.section.pruner.name
        remark = "the study has no pruner" if name == "none" else f"{name} has ended no trial early"
        cards.append(("Saved by pruning", "0", remark))
    return cards


def _warnings(facts: StudyFacts) -> str:
    found = at_the_edge(facts)
    counts = facts.counts()
    gone = sum(counts[state] for state in GIVEN_BACK)
    path = as_typed(facts.study.path)
    if gone:
        found.append(f"{_trials(gone)} lost the job. hpctrain search resume {path} goes on with them.")
    ended = counts[FAILED] + counts[DIVERGED]
    if ended >= max(2, 0.2 * (ended + counts[FINISHED] + counts[PRUNED])):
        found.append(f"{_trials(ended)} failed or diverged: see Failed and given back.")
    if not found:
        return ""
    title = "One thing to know" if len(found) == 1 else f"{len(found)} things to know"
    listed = "".join(f"<li>{escape(text)}</li>" for text in found)
    return f'<aside class="warnings"><h2>{title}</h2><ul>{listed}</ul></aside>'


def _figure(title: str, text: str, drawn: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b> {escape(text)}</figcaption>{drawn}</figure>"


def _empty(text: str) -> str:
    return f'<p class="empty">{escape(text)}</p>'


def _history(facts: StudyFacts) -> str:
    drawn = [history_figure(facts, index) for index in range(len(facts.metrics))]
    if not any(drawn):
        return _empty("No trial has finished yet.")
    text = "of each trial. Values far worse than most are at the edge of the drawing."
    return "".join(_figure(name, text, html) for name, html in zip(facts.metrics, drawn, strict=True))


def _curves(facts: StudyFacts) -> str:
    drawn, num_drawn, num_curves = curves_figure(facts)
    if not drawn:
        return _empty("No trial was evaluated yet.")
    note = ""
    if num_drawn < num_curves:
        note = f"{num_drawn} of {grouped(num_curves)} lines: the best trials, and an even choice of the others."
    pruner = facts.section.pruner.name
    told = "A line per trial" + (f"; the pruner {pruner} ended the orange ones. " if pruner != "none" else ". ")
    return f"<figure><figcaption>{escape(told + note)}</figcaption>{drawn}</figure>{_saving_note(facts)}"


def _saving_note(facts: StudyFacts) -> str:
    saved = saved_by_pruning(facts.trials)
    if not saved.trials:
        return ""
    unknown = saved.trials - saved.estimated
    text = (
        f"Pruning ended {_trials(saved.trials)} and saved about {significant(saved.hours)} {facts.hours}. The estimate "
        "takes what each one spent until its end, times the steps that it was spared over the steps that it did. It is "
        "too high if a trial would have stopped early anyway."
    )
    text += f" {_trials(unknown)} ended before the first step and count nothing." if unknown else ""
    return f'<p class="note">{escape(text)}</p>'


def _pareto(facts: StudyFacts) -> str:
    if facts.is_single:
        return ""
    from hpctrain.search.relation_drawings import pareto_figures

    found = pareto_figures(facts)
    if not found:
        return _empty("No trial has finished yet.")
    key = legend([("dot c1", "no other trial beats it in all objectives"), ("dot raw", "other finished trials")])
    body = "".join(f"<figure><figcaption><b>{escape(name)}</b></figcaption>{html}</figure>" for name, html in found)
    return key + (f'<div class="pair">{body}</div>' if len(found) > 1 else body)


def _slices(facts: StudyFacts) -> str:
    parts = []
    for index, metric in enumerate(facts.metrics):
        found = slices(facts, index)
        body = "".join(f"<figure><figcaption><b>{escape(key)}</b></figcaption>{html}</figure>" for key, html in found)
        title = f'<p class="lead"><b>{escape(metric)}</b></p>' if not facts.is_single and found else ""
        parts.append(f'{title}<div class="pair">{body}</div>' if found else "")
    if not any(parts):
        return _empty("No trial has finished yet.")
    key = [entry for entry in SLICE_LEGEND if facts.is_single or entry[0] != "dot raw"]
    lead = '<p class="lead">Each dot is a trial; its colour says when in the study it was tried.</p>'
    return lead + legend(key) + "".join(parts)


def _parallel(facts: StudyFacts) -> str:
    from hpctrain.search.relation_drawings import parallel_figure

    drawn, num_drawn = parallel_figure(facts)
    if not drawn:
        return _empty("It takes two finished trials.")
    entries = [("line ink", "best"), ("line c1", "best tenth")] if facts.is_single else [("line c1", "trade-offs")]
    note = "A line is a trial; it crosses each axis at the value that the trial had."
    if num_drawn < len(facts.order):
        note += f" {num_drawn} of {grouped(len(facts.order))} trials are drawn."
    if any(parameter.section.when for parameter in facts.space.parameters):
        note += " Trials without a parameter pass beside its axis."
    key = legend([*entries, ("line raw", "other finished trials")])
    return f"<figure><figcaption>{escape(note)}</figcaption>{key}{drawn}</figure>"


def _importance(facts: StudyFacts) -> str:
    from hpctrain.search.importance_section import importance_section

    return importance_section(facts)


def _files(facts: StudyFacts) -> str:
    parts = []
    for path, text in ((facts.study.study, "The study file"), (facts.study.base, "The base profile of all trials")):
        try:
            content = without_logins(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        is_open = " open" if path == facts.study.study else ""
        parts.append(f"<details{is_open}><summary>{text}</summary><pre>{highlight_yaml(content)}</pre></details>")
    return "".join(parts)
