"""Show the use of the machines: power, energy, temperature, utilisation, and the sensors that are not available."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

import numpy as np

from hpctrain.drawing.scale import DASH, grouped, padded
from hpctrain.drawing.svg import (
    HALF,
    LEFT,
    PHONE,
    RIGHT,
    SMALL,
    SMALL_ON_PHONE,
    Axes,
    drawing,
    legend,
    num_ticks,
    on_both,
)
from hpctrain.drawing.table import table
from hpctrain.metrics.events import Event, MemoryShort, OverCurrent, PaceChanged
from hpctrain.monitor.ledger import AttemptSums, RankState, RunEnergy, sum_up
from hpctrain.monitor.sizing import right_size_of
from hpctrain.records import Record, is_number
from hpctrain.words import format_duration

MOST_EVENTS = 100
MOST_RANKS = 64
"""Largest number of rows of the table of ranks."""

Line = tuple[str, str, str]
"""Name of a value, CSS class of its line, label."""

_FIGURES: tuple[tuple[str, str, tuple[Line, ...]], ...] = (
    (
        "Power", "W",
        (("board_power_w", "c1", "module"), ("gpu_power_w", "c1", "GPU of rank 0"),
         ("cpu_package_power_w", "c2", "processors")),
    ),
    (
        "Temperature", "°C",
        (("gpu_temperature_c", "c1", "GPU of rank 0"), ("temperature_tj_c", "c2", "hottest part of the chip"),
         ("temperature_cpu_c", "c3", "CPU"), ("temperature_x86_pkg_temp_c", "c3", "CPU")),
    ),
    (
        "Utilisation", "percent",
        (("gpu_utilisation_percent", "c1", "GPU of rank 0"), ("cpu_utilisation_percent", "c3", "all CPUs of the node")),
    ),
    (
        "Memory", "GiB",
        (("gpu_memory_used_gib", "c1", "GPU of rank 0"), ("process_memory_gib", "c3", "process of rank 0"),
         ("memory_available_gib", "c4", "available on the node")),
    ),
)  # fmt: skip


def machine_section(
    records: list[Record],
    events: list[Event],
    ranks: list[RankState],
    num_samples: int,
    one: str = "sample",
    gpus: int | None = None,
) -> str:
    """Return the section on energy and heat; empty if no sensor was ever read.

    Parameters
    ----------
    records : list of dict
        Records of kind ``monitor`` of rank 0, in the order of writing.
    events : list of Event
        All events of the run.
    ranks : list of RankState
    num_samples : int
        Number of samples seen in training.
    one : str
        What users call a sample.
    gpus : int, optional
        Number of GPUs; one for each rank by default.
    """
    if not records and not ranks:
        return ""
    energy = sum_up(ranks)
    figures = "".join(
        f"<figure><figcaption><b>{escape(title)}</b></figcaption>{svg}</figure>"
        for title, svg in machine_figures(records)
    )
    parts = [f'<p class="lead">{escape(energy_sentence(energy, num_samples, one))}</p>']
    if slowed := slowed_text(events, energy):
        parts.append(f'<p class="lead">{escape(slowed)}</p>')
    if size := right_size_of(ranks, gpus):
        parts.append(f'<p class="lead">{escape(str(size))} (<code>hpctrain cost</code>).</p>')
    parts += [f'<div class="pair">{figures}</div>' if figures else "", _table(ranks), _of_others(ranks), _absent(ranks)]
    return "".join(parts)


def energy_sentence(energy: RunEnergy, num_samples: int, one: str = "sample") -> str:
    """Return the energy of the run and per sample in words, and the time without a reading."""
    if energy.joules is None:
        return "No energy was measured: this machine does not report its power."
    names = {"gpu": "GPUs", "cpu": "processors", "board": "the board's module"}
    sources = " and ".join(names.get(source, source) for source in sorted(energy.by_source_j, reverse=True))
    text = f"{energy.kwh:.3g} kWh by {sources}, over all ranks and attempts"
    per_sample_j = energy.per_sample_j(num_samples)
    if per_sample_j is not None:
        text += f"; {per_sample_j:.3g} J per {one} seen"
    if energy.unmeasured_s >= 1:
        text += f". For {format_duration(energy.unmeasured_s)} there is no reading of the energy"
    return f"{text}."


def slowed_text(events: list[Event], energy: RunEnergy) -> str:
    """Return a sentence on how often and how long the run was slowed down; empty if it never was."""
    changes = [event for event in events if isinstance(event, PaceChanged)]
    began = [event for event in changes if event.before == "ok"]
    if not began:
        return ""
    waited = sum(event.level == "hot" for event in changes)
    times = "once" if len(began) == 1 else f"{len(began)} times"
    text = f"Slowed down {times}, for the first time at step {grouped(began[0].step)} ({began[0].reason})"
    text += f"; waited to cool down {waited} times" if waited > 1 else "; waited to cool down once" if waited else ""
    return f"{text}. It paused for {format_duration(energy.rested_s)} in all, which changes no result."


def machine_figures(records: list[Record]) -> list[tuple[str, str]]:
    """Return (title, legend and drawings) of power, temperature, utilisation, memory and pace against time."""
    if len(records) < 2:
        return []
    seconds = np.array([record["time"] for record in records]) - records[0]["time"]
    attempts = np.array([record.get("attempt") or 0 for record in records])
    breaks = np.flatnonzero(np.diff(attempts)) + 1
    figures = []
    for title, unit, lines in _FIGURES:
        drawn, labels = [], set()
        for name, css, label in lines:
            values = _values(records, name)
            if np.isfinite(values).sum() > 1 and label not in labels:
                drawn.append((values, css, label))
                labels.add(label)
        if drawn:
            figures.append((title, _figure(title, unit, seconds, drawn, breaks)))
    duty = 100 * _values(records, "duty")
    if np.isfinite(duty).any() and np.nanmin(duty) < 100:
        halted = np.array([record.get("pace") in ("hot", "critical") for record in records])
        drawn = [(np.where(halted, 0.0, duty), "c2", "allowed to compute")]
        figures.append(("Pace", _figure("Pace", "percent of the time", seconds, drawn, breaks)))
    return figures


def _values(records: list[Record], name: str) -> np.ndarray:
    found = (record.get(name) for record in records)
    return np.array([float(value) if is_number(value) else np.nan for value in found])


def _figure(title: str, unit: str, seconds: np.ndarray, lines: list, breaks: np.ndarray) -> str:
    together = np.concatenate([values[np.isfinite(values)] for values, _, _ in lines])
    if unit.startswith("percent"):
        limits = (0.0, 105.0)
    elif unit == "°C":
        limits = padded(float(together.min()), float(together.max()))
    else:
        limits = (0.0, float(together.max()) * 1.08 or 1.0)

    def draw(width: int) -> str:
        times = (0.0, max(float(seconds[-1]), 1e-3))
        height = SMALL if width > PHONE else SMALL_ON_PHONE
        axes = Axes(LEFT, 30, width - LEFT - RIGHT, height, times, limits, x_kind="time")
        axes.add_grid("time since the first reading", unit, num_ticks(width), 4)
        for place in breaks:
            axes.vertical(float(seconds[place]), "resume", title="another attempt")
        for values, css, label in lines:
            x = np.insert(seconds, breaks, seconds[breaks])
            axes.line(x, np.insert(values, breaks, np.nan), css, label)
        return drawing(width, height + 72, [axes], f"{title} in {unit} against the time")

    return legend([(f"line {css}", label) for _, css, label in lines]) + on_both(HALF, draw)


_HEADS = ("Rank", "Host", "Utilisation", "Power", "Hottest", "GPU memory", "Throttled", "Paused", "Energy")


def _table(ranks: list[RankState]) -> str:
    """Return the table of ranks with the columns that at least one rank reports; empty if there are none."""
    rows = [_cells(state) for state in ranks[:MOST_RANKS]]
    telling = [column for column in range(2, len(_HEADS)) if any(row[column] != DASH for row in rows)]
    if not telling:
        return ""
    more = len(ranks) - MOST_RANKS
    note = f'<p class="note">{more} more ranks are in monitor/.</p>' if more > 0 else ""
    shown = [0, 1, *telling]
    cells = [[escape(row[column]) for column in shown] for row in rows]
    title = "Sensors of each rank" if len(ranks) > 1 else "Sensors of the only rank"
    listed = table([_HEADS[column] for column in shown], cells)
    return f'<details class="figures"><summary>{title}</summary>{listed}{note}</details>'


def _cells(state: RankState) -> tuple[str, ...]:
    every = state.attempts
    joules = [sums.energy_j for sums in every if sums.energy_j is not None]
    heat, power = (_mean(every, f"mean_gpu_throttled_by_{why}") for why in ("heat", "power"))
    throttled = [
        f"{100 * share:.2g} % by {why}" for share, why in ((heat, "heat"), (power, "power")) if share is not None
    ]
    paused_s = sum(sums.rested_s for sums in every)
    return (
        str(state.rank),
        state.host,
        _text(_mean(every, "mean_gpu_utilisation_percent"), "{:.0f} %"),
        _text(_first(_mean(every, "mean_board_power_w"), _mean(every, "mean_gpu_power_w")), "{:.0f} W"),
        _text(_most(every, "max_gpu_temperature_c"), "{:.0f} °C"),
        _text(_most(every, "max_gpu_memory_used_gib"), "{:.1f} GiB"),
        ", ".join(throttled) or DASH,
        format_duration(paused_s) if paused_s >= 1 else DASH,
        f"{sum(joules) / 3.6e6:.3g} kWh" if joules else DASH,
    )


def _of_others(ranks: list[RankState]) -> str:
    """List the events of the sensors of other ranks; the run's own events are those of rank 0."""
    texts = [
        f"rank {state.rank} on {state.host}, attempt {event.get('attempt', '?')}: {event.get('text')}"
        for state in ranks
        if state.rank > 0
        for event in state.events
        if not str(event.get("text")).startswith("power mode")
    ]
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts[-MOST_EVENTS:])
    return f"<details><summary>Events of other ranks</summary><ul>{items}</ul></details>"


def _absent(ranks: list[RankState]) -> str:
    reasons: dict[tuple[str, str], list[int]] = {}
    for state in ranks:
        for name, why in state.absent.items():
            reasons.setdefault((name, str(why)), []).append(state.rank)
    if not reasons:
        return ""
    items = "".join(
        f"<li>{escape(name)}: {escape(why)}{escape(_of_ranks(numbers, len(ranks)))}</li>"
        for (name, why), numbers in sorted(reasons.items())
    )
    return f"<details><summary>Not available on these machines</summary><ul>{items}</ul></details>"


def _of_ranks(numbers: list[int], total: int) -> str:
    return "" if len(numbers) == total else f" (rank {', '.join(map(str, numbers[:8]))})"


def _mean(every: Iterable[AttemptSums], name: str) -> float | None:
    """Return the mean over attempts, weighted by the measured time of each."""
    found = [(sums.statistics[name], max(sums.measured_s, 1e-3)) for sums in every if name in sums.statistics]
    return sum(v * w for v, w in found) / sum(w for _, w in found) if found else None


def _most(every: Iterable[AttemptSums], name: str) -> float | None:
    return max((sums.statistics[name] for sums in every if name in sums.statistics), default=None)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _text(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)


def machine_warnings(events: list[Event]) -> list[str]:
    """Return warnings about the machines: critical heat, over-current, short memory; each kind once."""
    last: dict[type[Event], Event] = {}
    count: Counter[type[Event]] = Counter()
    for event in events:
        is_critical = isinstance(event, PaceChanged) and event.level == "critical"
        if is_critical or isinstance(event, OverCurrent | MemoryShort):
            last[type(event)] = event
            count[type(event)] += 1
    texts = []
    for kind, event in last.items():
        more = f" ({count[kind]} times in all)" if count[kind] > 1 else ""
        texts.append(f"Attempt {event.attempt or '?'}: {event.describe()}{more}.")
    return texts
