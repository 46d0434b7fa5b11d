"""The list of all alerts: the trainer, the page for users and Prometheus take them from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpctrain.alerts import rules_learning as learning
from hpctrain.alerts import rules_machine as machine
from hpctrain.alerts import rules_progress as progress
from hpctrain.alerts.facts import Facts
from hpctrain.alerts.verdict import Verdict
from hpctrain.metrics.exporters.series import ACTIVE_ALERT, series
from hpctrain.profile.sections.alerts import AlertsSection

WARNING, CRITICAL = "warning", "critical"


def _at_once(limits: AlertsSection) -> float:
    return 0.0


def _of_idle_gpu(limits: AlertsSection) -> float:
    return limits.idle_gpu_s


def _of_heat(limits: AlertsSection) -> float:
    return min(120.0, 4 * limits.check_every_s)


def _of_speed(limits: AlertsSection) -> float:
    return min(600.0, 20 * limits.check_every_s)


def _nothing(limits: AlertsSection) -> str:
    return ""


@dataclass(frozen=True)
class Rule:
    """One alert.

    Parameters
    ----------
    name : str
        Name for users, such as ``idle-gpu``.
    judge : callable
        Pure function from :class:`~hpctrain.alerts.facts.Facts` to a verdict; its docstring says what the alert means.
    severity : str
        ``warning``, or ``critical`` if the run makes no progress.
    hold_s : callable
        How long the verdict must be bad before the alert is raised [s], from the limits of the profile.
    quiet_s : float
        How long the verdict must be well before the alert is over [s]; twice as long each time it comes again.
    of_job : bool
        Whether the process that started the ranks judges it, and not a thread of rank 0.
    expression : callable
        What Prometheus can tell from the numbers of the run alone, from the limits; an empty text if nothing.
    """

    name: str
    judge: Callable[[Facts], Verdict]
    severity: str = WARNING
    hold_s: Callable[[AlertsSection], float] = _at_once
    quiet_s: float = 60.0
    of_job: bool = False
    expression: Callable[[AlertsSection], str] = _nothing

    @property
    def meaning(self) -> str:
        """What the alert means, in one sentence."""
        return (self.judge.__doc__ or "").strip().splitlines()[0]

    def promql(self, limits: AlertsSection) -> str:
        """Return the expression of Prometheus: of the numbers of the run, or of the alert that hpctrain has raised."""
        own = self.expression(limits)
        raised = "" if self.of_job else f'{ACTIVE_ALERT.name}{{alert="{self.name}"}} == 1'
        return f"({own}) or on (run) ({raised})" if own and raised else own or raised


_TRAINS = f"{series('training')} == 1"
_A_DAY_AGO = "86400"


def _idle_gpu(limits: AlertsSection) -> str:
    window_s = max(60, round(limits.idle_gpu_s))
    used = f"avg_over_time({series('gpu_utilisation_ratio')}[{window_s}s])"
    trained = f"{series('training')} offset {window_s}s == 1"  # else a run that has just begun would be idle
    return f"{used} < {limits.idle_gpu_percent / 100:g} and on (run) {_TRAINS} and on (run) {trained}"


def _too_hot(limits: AlertsSection) -> str:
    slowed = f"avg_over_time({series('gpu_throttled_by_heat')}[5m]) >= 0.5"
    pauses = f"min_over_time({series('pace_level')}[2m]) >= 2"
    return f"({slowed} or {pauses}) and on (run) {_TRAINS}"


def _checkpoint_late(limits: AlertsSection) -> str:
    return (
        f"{series('step')} - {series('checkpoint_step')} > 3 * {series('checkpoint_every_steps')} "
        f"and on (run) {_TRAINS}"
    )


def _silent(limits: AlertsSection) -> str:
    age = f"time() - max by (run) ({series('sample_timestamp_seconds')})"
    return f"({age} > {limits.silent_s:g} and on (run) {_TRAINS}) < {_A_DAY_AGO}"


def _run_ended_badly(limits: AlertsSection) -> str:
    newest = f"time() - max by (run) ({series('step_timestamp_seconds')})"
    failed = f"max by (run) ({series('failed')}) == 1 and on (run) {newest} < {_A_DAY_AGO}"
    return f"({failed}) unless on (run) {_TRAINS}"


RULES: Sequence[Rule] = (
    Rule("idle-gpu", machine.idle_gpu, hold_s=_of_idle_gpu, quiet_s=120.0, expression=_idle_gpu),
    Rule("too-hot", machine.too_hot, hold_s=_of_heat, quiet_s=300.0, expression=_too_hot),
    Rule("loss-spike", learning.loss_spike),
    Rule("useless-steps", learning.useless_steps),
    Rule("metric-worse", learning.metric_worse),
    Rule("no-progress", progress.no_progress, CRITICAL, quiet_s=0.0),
    Rule("slow-steps", progress.slow_steps, hold_s=_of_speed, quiet_s=300.0),
    Rule("checkpoint-late", progress.checkpoint_late, quiet_s=0.0, expression=_checkpoint_late),
    Rule("disk-nearly-full", machine.disk_nearly_full, quiet_s=120.0),
    Rule("failing-node", progress.failing_node, quiet_s=0.0),
    Rule("silent", progress.silent, CRITICAL, quiet_s=0.0, of_job=True, expression=_silent),
    Rule("run-ended-badly", progress.run_ended_badly, CRITICAL, quiet_s=0.0, of_job=True, expression=_run_ended_badly),
)
"""All alerts."""
