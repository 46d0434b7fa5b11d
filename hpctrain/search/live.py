"""The live view of a study: how far it is, the trials that run, and the best ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpctrain.launch.present import STYLES
from hpctrain.report.text import cut
from hpctrain.search.describe import shown
from hpctrain.search.facts import StudyFacts, facts_of, saved_by_pruning, short_names
from hpctrain.search.folder import StudyDir
from hpctrain.search.trials import DIVERGED, GIVEN_BACK, PRUNED, Trial, TrialReader, is_running
from hpctrain.states import FAILED, RUNNING
from hpctrain.words import format_short_duration

MOST_ROWS = 16
"""Largest number of trials in a table of the view."""
_STYLES = {**STYLES, PRUNED: "yellow", DIVERGED: "red"}
_WIDEST_REASON = 60
_BAR_WIDTH = 32


def watch(study: StudyDir, interval_s: float, is_over: Callable[[StudyDir, Sequence[Trial]], bool]) -> None:
    """Redraw the view until the study is over or until Ctrl-C, which ends the view and no trial."""
    from rich.live import Live

    from hpctrain.terminal import console

    reader = TrialReader(study, ask_queue=True)
    try:
        trials = reader.read()
        with Live(draw(facts_of(study, trials, time.time())), auto_refresh=False, console=console()) as live:
            while not is_over(study, trials):
                time.sleep(interval_s)
                trials = reader.read()
                live.update(draw(facts_of(study, trials, time.time())), refresh=True)
    except KeyboardInterrupt:
        pass


def draw(facts: StudyFacts) -> RenderableType:
    """Return a frame for rich to print."""
    parts: list[RenderableType] = [_head(facts), _bar(facts), _costs(facts)]
    running = [trial for trial in facts.trials if is_running(trial)]
    if running:
        parts.append(_table(facts, sorted(running, key=lambda trial: trial.state != RUNNING), "running"))
    if facts.order:
        chosen = facts.order if facts.is_single else facts.front
        parts.append(_table(facts, chosen, "best" if facts.is_single else "no other beats them in all"))
    gone = [trial for trial in facts.trials if trial.state in (FAILED, *GIVEN_BACK)]
    if gone:
        parts.append(_gone(gone))
    return Group(*parts)


def _head(facts: StudyFacts) -> Text:
    parts: list[object] = [(f"{facts.section.name}/{facts.study.id}", "bold")]
    for state, count in facts.counts().most_common():
        parts += ["  ", (f"{count:,} {state}", _STYLES.get(state, ""))]
    return Text.assemble(*parts)  # type: ignore[arg-type]


def _bar(facts: StudyFacts) -> RenderableType:
    ended = sum(trial.is_sealed for trial in facts.trials)
    row = Table.grid(padding=(0, 2))
    row.add_column(width=_BAR_WIDTH)
    row.add_column()
    since = f"submitted {format_short_duration(max(0.0, facts.now - facts.record.submitted_at))} ago"
    bar = ProgressBar(total=max(1, len(facts.trials)), completed=ended, width=_BAR_WIDTH)
    row.add_row(bar, f"{ended:,} of {len(facts.trials):,} trials have ended   {since}")
    return row


def _costs(facts: StudyFacts) -> Text:
    hours, kwh = facts.spent()
    budget = facts.section.budget.gpu_hours
    texts = [f"{hours:.3g}{f' of {budget:g}' if budget else ''} {facts.hours} spent"]
    texts += [f"{kwh:.3g} kWh"] if kwh is not None else []
    saved = saved_by_pruning(facts.trials)
    texts += [f"pruning saved about {saved.hours:.3g}"] if saved.trials else []
    return Text("   ".join(texts))


def _table(facts: StudyFacts, trials: Sequence[Trial], title: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title=title, title_justify="left", title_style="bold"
    )
    table.add_column("trial", justify="right")
    table.add_column("state")
    table.add_column("step", justify="right")
    for metric in facts.metrics:
        table.add_column(metric, justify="right")
    names = short_names(facts.space)
    table.add_column("values", overflow="fold")
    for trial in trials[:MOST_ROWS]:
        steps = f"{trial.step:,}/{trial.total_steps:,}" if trial.total_steps else "-"
        values = "  ".join(f"{names.get(key, key)}={shown(value)}" for key, value in trial.values.items())
        state = Text(trial.state, style=_STYLES.get(trial.state, ""))
        table.add_row(str(trial.number), state, steps, *_scores(facts, trial), Text(values))
    if len(trials) > MOST_ROWS:
        table.caption = f"{len(trials) - MOST_ROWS:,} more are not shown"
    return table


def _scores(facts: StudyFacts, trial: Trial) -> list[str]:
    """Return the objectives of a trial; of one that runs, the newest evaluation in parentheses."""
    scores = [f"{score:.5g}" for score in trial.scores or [] if score is not None]
    if not scores and trial.evaluations and trial.evaluations[-1][1] is not None:
        scores = [f"({trial.evaluations[-1][1]:.5g})"]
    return scores + ["-"] * (len(facts.metrics) - len(scores))


def _gone(trials: Sequence[Trial]) -> Table:
    table = Table.grid(padding=(0, 2))
    for trial in trials[-MOST_ROWS:]:
        state = Text(trial.state, style=_STYLES.get(trial.state, "red"))
        table.add_row(str(trial.number), state, Text(cut(trial.reason, _WIDEST_REASON)))
    return table
