"""``monitor.alerts`` of a profile, ``alerts`` of a site: what is worth an alert while a run goes, and who hears it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import Line, Section, Switch

AlertName = Literal[
    "idle-gpu",
    "too-hot",
    "loss-spike",
    "useless-steps",
    "metric-worse",
    "no-progress",
    "slow-steps",
    "checkpoint-late",
    "disk-nearly-full",
    "failing-node",
    "silent",
    "run-ended-badly",
]
WEBHOOK_VARIABLE = "HPCTRAIN_ALERT_WEBHOOK"


class AlertsSection(Section):
    """Alerts while the run goes: in its log, in ``hpctrain status``, and by a command or a webhook."""

    enabled: Switch = True
    """Whether anything is judged."""
    off: list[AlertName] = []
    """Alerts that are never raised."""
    check_every_s: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    """Time between two looks of a thread of rank 0 at the run [s]."""
    idle_gpu_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """``idle-gpu``: a GPU is idle below this use [%]."""
    idle_gpu_s: Annotated[float, Field(ge=0, le=86400)] = 600.0
    """``idle-gpu``: for how long [s]."""
    loss_spike_spread: Annotated[float, Field(ge=3, le=1000)] = 12.0
    """``loss-spike``: a loss is a spike if it is so many standard deviations above the usual one, and by half of it."""
    no_progress_steps: Annotated[float, Field(ge=2, le=100000)] = 20.0
    """``no-progress``: rank 0 does nothing for so many times the usual time of a step, and for `no_progress_s`."""
    no_progress_s: Annotated[float, Field(ge=0.1, le=86400)] = 300.0
    """``no-progress``: shortest time without any sign of progress [s]."""
    silent_s: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """``silent``: no rank writes a heartbeat for this time [s], or for 12 heartbeats if that is longer."""
    disk_free_gib: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """``disk-nearly-full``: less room than this is left [GiB], or in the run directory than two checkpoints need."""
    evaluations_without_best: Annotated[int, Field(ge=2, le=100000)] = 10
    """``metric-worse``: so many evaluations in a row were not the best one, and are worse by more than their noise."""
    command: list[Line] = []
    """Program and its arguments, which run on the first node with the alert as JSON on standard input; no shell."""
    webhook_variable: Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]*_)?WEBHOOK(_URL)?$")] | None = WEBHOOK_VARIABLE
    """Variable of the environment with the address of a webhook; without it nothing is posted. Its name ends with
    ``WEBHOOK`` or ``WEBHOOK_URL``, so that the address is hidden wherever hpctrain writes."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longest time for the command, or for one answer of the webhook [s]."""
