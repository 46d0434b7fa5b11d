"""The live view of a run: progress, load and temperature of each rank's machine, and the latest events."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpctrain.launch.history import newest_checkpoint
from hpctrain.launch.lastwords import read_backwards
from hpctrain.launch.present import STYLES, alert_text, steps
from hpctrain.launch.queue import Queue
from hpctrain.launch.status import RunStatus, describe
from hpctrain.metrics.events import Best, CheckpointSaved, DataFound, FirstStep, SensorsFound, read_event
from hpctrain.monitor.ledger import RankState, RunEnergy, read_ledgers, sum_up
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir
from hpctrain.states import PENDING, RUNNING
from hpctrain.words import format_short_duration

NUM_EVENTS = 6
MOST_RANKS = 16
"""Largest number of ranks in the view; of more ranks it shows the slowest and the hottest."""
_STALE_INTERVALS = 6.0
"""Number of missed samples after which the last sample of a rank counts as old."""
_STYLES = {"ok": "green", "warm": "yellow", "hot": "bold red", "critical": "bold white on red"}
_SEVERITIES = {"warning": "yellow", "critical": "bold red"}
_QUIET_EVENTS = (FirstStep, Best, SensorsFound, DataFound, CheckpointSaved)
_RECORDS_LOOKED_AT = 4000
"""Largest number of records to read from the end of metrics.jsonl to find the last events."""


@dataclass(frozen=True)
class Frame:
    """Everything that one frame of the view shows, read once.

    Parameters
    ----------
    status : RunStatus
        According to the run directory; before the first heartbeat according to the queue, if one is given.
    ranks : list of RankState
    energy : RunEnergy
    states : dict of int to str
        State of each rank, according to its heartbeat.
    events : list of (float, str)
        Time [s since 1970] and text of the newest events, oldest first; sensor events come from all ranks.
    checkpoint_at : float or None
        When the newest whole checkpoint was written, seconds since 1970.
    num_samples : int
        Number of samples seen in training.
    now : float
    """

    status: RunStatus
    ranks: list[RankState]
    energy: RunEnergy
    states: dict[int, str]
    events: list[tuple[float, str]]
    checkpoint_at: float | None
    num_samples: int
    now: float


def read_frame(run: RunDir, now: float | None = None, queue: Queue | None = None) -> Frame:
    """Read everything that a frame shows.

    Parameters
    ----------
    run : RunDir
        On a file system that this host sees; the job itself may run on any host.
    now : float, optional
        Seconds since 1970; None means the time of the clock.
    queue : Queue, optional
        The view asks it while the run directory alone cannot distinguish a queued job from one that has just begun.
    """
    now = time.time() if now is None else now
    status = describe(run, now, ask_queue=False)
    if status.state == PENDING and queue is not None:
        status = describe(run, now, queue)
    ranks = read_ledgers(run)
    newest = max((state.attempt for state in ranks), default=0)
    beats = run.read_heartbeats()
    events: list[tuple[float, str]] = []
    num_samples = 0
    for number, record in enumerate(read_backwards(run.metrics)):
        if record["kind"] == "event" and len(events) < NUM_EVENTS:
            event = read_event(record)
            if not isinstance(event, _QUIET_EVENTS):
                events.append((event.time_s, event.describe(status.words)))
        num_samples = num_samples or int(record.get("samples_seen") or 0)
        if number > _RECORDS_LOOKED_AT or (num_samples and len(events) == NUM_EVENTS):
            break
    # metrics.jsonl has the events of rank 0 only; the other ranks write theirs beside their measurements.
    events += [
        (event["time"], f"rank {state.rank}: {event['text']}")
        for state in ranks
        for event in state.events[-NUM_EVENTS:]
        if state.rank > 0
    ]
    return Frame(
        status,
        [state for state in ranks if state.attempt == newest],
        sum_up(ranks),
        {beat["rank"]: beat.get("state", "-") for beat in beats},
        sorted(events)[-NUM_EVENTS:],
        _written_at(run),
        num_samples,
        now,
    )


def _written_at(run: RunDir) -> float | None:
    """Return when the newest checkpoint was written [s since 1970]; None if there is none or it was just removed."""
    try:
        return (run.checkpoints / newest_checkpoint(run) / "MANIFEST.json").stat().st_mtime
    except OSError:
        return None


def draw(frame: Frame) -> RenderableType:
    """Return a frame for rich to print."""
    parts: list[RenderableType] = [_head(frame), _bar(frame), _facts(frame), *_alerts(frame)]
    if frame.ranks:
        parts.append(_ranks(frame))
    if frame.events:
        parts.append(_events(frame))
    return Group(*parts)


def _head(frame: Frame) -> Text:
    status = frame.status
    detail = f"  ({status.detail})" if status.detail else ""
    style = STYLES.get(status.state, "yellow")
    return Text.assemble((f"{status.run.name}/{status.run.run_id}", "bold"), "  ", (status.state, style), detail)


def _bar(frame: Frame) -> RenderableType:
    status = frame.status
    if not status.total_steps:
        return Text(f"step {steps(status)}")
    row = Table.grid(padding=(0, 2))
    row.add_column(width=32)
    row.add_column()
    left = f"{format_short_duration(status.eta_s)} left" if status.eta_s is not None else ""
    row.add_row(
        ProgressBar(total=status.total_steps, completed=status.step, width=32),
        "  ".join(filter(None, [f"step {steps(status)}", left])),
    )
    return row


def _facts(frame: Frame) -> Text:
    status, energy = frame.status, frame.energy
    joules = energy.per_sample_j(frame.num_samples)
    facts = [
        f"loss {status.loss:.4g}" if status.loss is not None else "",
        f"validation {status.validation_loss:.4g}" if status.validation_loss is not None else "",
        f"{status.samples_per_s:,.0f} {status.words.many}/s" if status.samples_per_s else "",
        f"attempt {status.num_attempts}" if status.num_attempts else "",
        _checkpoint(frame),
    ]
    power = [
        f"energy {energy.kwh:.3g} kWh" if energy.kwh is not None else "energy not measured",
        f"{joules:.3g} J per {status.words.one}" if joules is not None else "",
        f"unmeasured {format_short_duration(energy.unmeasured_s)}" if energy.unmeasured_s >= 1 else "",
        f"paused {format_short_duration(energy.rested_s)}" if energy.rested_s >= 1 else "",
    ]
    return Text("\n".join("   ".join(filter(None, line)) for line in (facts, power)))


def _alerts(frame: Frame) -> list[Text]:
    """Return a line for each alert that is raised."""
    return [Text(alert_text(one, frame.now), style=_SEVERITIES.get(one.severity, "")) for one in frame.status.alerts]


def _checkpoint(frame: Frame) -> str:
    if frame.checkpoint_at is None:
        return "no checkpoint yet"
    return f"{frame.status.checkpoint}, {format_short_duration(max(0.0, frame.now - frame.checkpoint_at))} old"


def _ranks(frame: Frame) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    table.add_column("rank", justify="right")
    table.add_column("host")
    table.add_column("state")
    table.add_column("pace")
    for title in ("GPU", "memory", "°C", "power", "CPU", "RSS"):
        table.add_column(title, justify="right")
    shown = sorted(frame.ranks, key=lambda state: (-_duty_lost(state), -_temperature(state), state.rank))[:MOST_RANKS]
    for state in sorted(shown, key=lambda state: state.rank):
        table.add_row(*_row(state, frame))
    if len(frame.ranks) > MOST_RANKS:
        table.caption = f"{len(frame.ranks) - MOST_RANKS} cooler ranks are not shown"
    return table


def _row(state: RankState, frame: Frame) -> list[Text | str]:
    values = state.values
    age_s = frame.now - state.time
    is_old = age_s > _STALE_INTERVALS * state.interval_s + 1.0
    pace = str(values.get("pace", "-"))
    if pace == "warm":
        pace = f"warm {100 * values.get('duty', 1.0):.0f} %"
    used, total = values.get("gpu_memory_used_gib"), values.get("gpu_memory_total_gib")
    memory = f"{used:.1f}/{total:.0f} GiB" if used is not None and total is not None else "-"
    if used is None and "memory_available_gib" in values and "memory_total_gib" in values:
        used, total = values["memory_total_gib"] - values["memory_available_gib"], values["memory_total_gib"]
        memory = f"{used:.1f}/{total:.0f} GiB"  # of the node: on a Jetson it is the GPU's too
    celsius = _temperature(state)
    is_silent = is_old and frame.status.state == RUNNING
    return [
        str(state.rank),
        state.host,
        f"silent {format_short_duration(age_s)}" if is_silent else frame.states.get(state.rank, "-"),
        Text(pace, style=_STYLES.get(pace.split()[0], "")),
        _with(values.get("gpu_utilisation_percent"), "{:.0f} %"),
        memory,
        f"{celsius:.0f}" if celsius > -math.inf else "-",
        _with(Sensors.power_w(values), "{:.1f} W"),
        _with(values.get("process_cpu_percent"), "{:.0f} %"),
        _with(values.get("process_memory_gib"), "{:.2f} GiB"),
    ]


def _duty_lost(state: RankState) -> float:
    return {"hot": 1.0, "critical": 2.0}.get(str(state.values.get("pace")), 1.0 - state.values.get("duty", 1.0))


def _temperature(state: RankState) -> float:
    """Return the highest temperature reported [°C]; minus infinity if the machine reports none."""
    celsius = [value for name, value in state.values.items() if name.endswith("_c") and "temperature" in name]
    return max(celsius, default=-math.inf)


def _events(frame: Frame) -> Table:
    table = Table.grid(padding=(0, 2))
    for moment, text in frame.events:
        table.add_row(Text(time.strftime("%H:%M:%S", time.localtime(moment)), style="dim"), Text(text))
    return table


def _with(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
