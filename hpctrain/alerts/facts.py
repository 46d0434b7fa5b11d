"""What the rules look at: one moment of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpctrain.alerts.tape import Tape
from hpctrain.metrics.objective import Objective
from hpctrain.profile.sections.alerts import AlertsSection

TRAINING = "training"
"""State of the heartbeat of a rank that does steps."""


@dataclass(frozen=True)
class Disk:
    """A file system that the run writes to.

    Parameters
    ----------
    what : str
        Whose it is, in words: ``the run directory``.
    path : str
    free_bytes, total_bytes : int
        Room for users other than root.
    free_files : int or None
        Number of files that can still be made; None if the file system has no such limit.
    is_run : bool
        Whether checkpoints are written here.
    """

    what: str
    path: str
    free_bytes: int
    total_bytes: int
    free_files: int | None = None
    is_run: bool = False


@dataclass(frozen=True)
class RankNow:
    """Smoothed readings of one rank's sensors.

    Parameters
    ----------
    rank : int
    host : str
    gpu_percent : float or None
        Use of its GPU, a running mean over minutes; None where no sensor tells it.
    heat_share : float
        Share of the samples in which the driver slowed the GPU down because of heat.
    pace : str
        ``ok``, ``warm``, ``hot`` or ``critical``.
    """

    rank: int
    host: str
    gpu_percent: float | None = None
    heat_share: float = 0.0
    pace: str = "ok"


@dataclass(frozen=True)
class Facts:
    """One moment of a run.

    Parameters
    ----------
    limits : AlertsSection
        ``monitor.alerts`` of the profile.
    state : str
        What rank 0 does, as in its heartbeat.
    step : int
        Last step done.
    silent_s : float
        Time since rank 0 has done anything: a step, a batch of an evaluation, a part of a checkpoint [s].
    tape : Tape
        Losses, speeds, evaluations and checkpoints of this attempt.
    ranks : sequence of RankNow
        Ranks whose newest readings are recent.
    disks : sequence of Disk
    objective : Objective
        The number that decides which evaluation is the best one.
    best_value : float or None
        Its best value so far, of all attempts.
    evaluations_since_best : int
    checkpoint_every_steps : int
    strikes : mapping
        Number of failures within a day by node, from ``attempts/bad-nodes.tsv``.
    barren_attempts : int
        Number of the latest attempts in a row that ended without a new checkpoint, by an error or a kill.
    barren_node : str
        Node on which all of these attempts ran; empty if there is none, or more than one.
    beat_age_s : float or None
        Time since the newest heartbeat of any rank [s]; None if there is none.
    beat_interval_s : float
        Time between two heartbeats [s].
    ended : str
        What followed the newest attempt, once it has ended, such as ``failed``; empty while it lives.
    exit_code : int
        Its exit code.
    """

    limits: AlertsSection = field(default_factory=AlertsSection)
    state: str = TRAINING
    step: int = 0
    silent_s: float = -math.inf
    tape: Tape = field(default_factory=Tape)
    ranks: Sequence[RankNow] = ()
    disks: Sequence[Disk] = ()
    objective: Objective = field(default_factory=Objective)
    best_value: float | None = None
    evaluations_since_best: int = 0
    checkpoint_every_steps: int = 1000
    strikes: Mapping[str, int] = field(default_factory=dict)
    barren_attempts: int = 0
    barren_node: str = ""
    beat_age_s: float | None = None
    beat_interval_s: float = 10.0
    ended: str = ""
    exit_code: int = 0
