"""Choose by seed where and how to interrupt a run, so that every signal and every part of an attempt occurs."""

from __future__ import annotations

import math
import random
import signal
from dataclasses import dataclass

KILL_ALL = "SIGKILL to all ranks"
CUTS = {
    KILL_ALL: (signal.SIGKILL, "all"),
    "SIGKILL to one rank": (signal.SIGKILL, "one"),
    "SIGTERM to all ranks": (signal.SIGTERM, "all"),
    "SIGUSR2 to one rank": (signal.SIGUSR2, "one"),
}
"""Ways to interrupt a run, as node failures, the out-of-memory killer, pre-emption and time limits do."""

PLACES = ("start", "update", "evaluation", "save", "finish", "any")
"""Parts of an attempt to interrupt; ``any`` is any moment after its start."""

_POLITE_UP_TO = 0.85
"""Latest share of the run at which to interrupt it; a run that must stop later may finish first."""


@dataclass(frozen=True)
class Pace:
    """How long the parts of the undisturbed attempt took.

    Parameters
    ----------
    start_s : float
        Time from the start of the processes to the first step.
    step_s, evaluation_s, save_s : float
        Time of one step, evaluation and checkpoint.
    finish_s : float
        Time from the last step to the end of the processes: last evaluation and checkpoint, the model, the report.
    last_step : int
    evaluated, saved : tuple of int
        Steps after which the run is evaluated and saved.
    """

    start_s: float
    step_s: float
    evaluation_s: float
    save_s: float
    finish_s: float
    last_step: int
    evaluated: tuple[int, ...]
    saved: tuple[int, ...]


@dataclass(frozen=True)
class Aim:
    """One planned interruption.

    Parameters
    ----------
    how : str
        Key of :data:`CUTS`.
    place : str
        One of :data:`PLACES`.
    step : int
        Step to wait for. ``any`` may not come much later than this, so that the run lasts for the interruptions after
        it.
    share : float
        Position within the place, from 0 (its start) to 1 (its end).
    """

    how: str
    place: str
    step: int
    share: float

    @property
    def is_kill(self) -> bool:
        """Whether the ranks cannot save first."""
        return CUTS[self.how][0] is signal.SIGKILL


def plan_cuts(num_cuts: int, seed: int, pace: Pace) -> list[Aim]:
    """Choose ways and places so that each pair of them occurs before any occurs twice.

    Parameters
    ----------
    num_cuts : int
    seed : int
    pace : Pace

    Returns
    -------
    list of Aim
        Interruptions in the order of the run. At least one is a SIGKILL to all ranks during a step, which loses steps;
        eight or more include each way and each place.
    """
    draw = random.Random(seed)
    ways = draw.sample(sorted(CUTS), k=len(CUTS))
    first = ways.index(KILL_ALL)
    ways = ways[first:] + ways[:first]
    others = [place for place in PLACES if place != "update" and (place != "evaluation" or pace.evaluated)]
    places = ["update", *draw.sample(others, k=len(others))]
    round_length = math.lcm(len(ways), len(places))
    dealt = []
    for index in range(num_cuts):
        how = ways[(index + index // round_length) % len(ways)]
        dealt.append(_aim(how, places[index % len(places)], pace, draw))
    return sorted(dealt, key=lambda aim: (aim.place == "finish", aim.step))


def _aim(how: str, place: str, pace: Pace, draw: random.Random) -> Aim:
    is_kill = CUTS[how][0] is signal.SIGKILL
    if place == "finish" and not is_kill:  # a run that is asked to stop after its last step finishes normally
        how = draw.choice([name for name, (number, _) in CUTS.items() if number is signal.SIGKILL])
        is_kill = True
    last = pace.last_step if is_kill else math.ceil(_POLITE_UP_TO * pace.last_step)
    step = draw.randint(1, max(1, min(last, pace.last_step - 1)))
    if place in ("evaluation", "save"):
        steps = pace.evaluated if place == "evaluation" else pace.saved
        within = [at for at in steps if at <= last and (is_kill or at < pace.last_step)]
        step, place = (draw.choice(within), place) if within else (step, "any")
    return Aim(how, place, pace.last_step if place == "finish" else step, draw.random())
