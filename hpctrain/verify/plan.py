"""Where and how a run is interrupted: chosen by seed, so that every signal and every part of an attempt is covered."""

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
"""Ways to interrupt a run: as dying nodes, the out-of-memory killer, pre-emption and time limits do it."""

PLACES = ("start", "update", "evaluation", "save", "finish", "any")
"""Parts of an attempt to aim at; ``any`` is a moment after its start, wherever that falls."""

_POLITE_UP_TO = 0.85
"""Share of the run: a run that is asked to stop later may finish first, and nothing would be interrupted."""


@dataclass(frozen=True)
class Pace:
    """How long the parts of the undisturbed attempt took.

    Parameters
    ----------
    start_s : float
        From the start of the processes to the first step.
    step_s, evaluation_s, save_s : float
        One step, evaluation, checkpoint.
    finish_s : float
        From the last step to the end of the processes: last evaluation and checkpoint, the model, the report.
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
        From 0 to 1: how far into the place.
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
        In the order of the run. At least one is a SIGKILL to all ranks during a step, which loses steps; eight or more
        include each way and each place.
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
    if place == "finish" and not is_kill:  # after its last step a run just finishes
        how = draw.choice([name for name, (number, _) in CUTS.items() if number is signal.SIGKILL])
        is_kill = True
    last = pace.last_step if is_kill else math.ceil(_POLITE_UP_TO * pace.last_step)
    step = draw.randint(1, max(1, min(last, pace.last_step - 1)))
    if place in ("evaluation", "save"):
        steps = pace.evaluated if place == "evaluation" else pace.saved
        within = [at for at in steps if at <= last and (is_kill or at < pace.last_step)]
        step, place = (draw.choice(within), place) if within else (step, "any")
    return Aim(how, place, pace.last_step if place == "finish" else step, draw.random())
