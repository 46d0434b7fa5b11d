"""The budget of a run, ``launch.budget`` and that of the site: what was used and will be used must be within it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpctrain.cost.estimate import Estimate, estimate_from_here
from hpctrain.cost.spent import cost_of_run
from hpctrain.cost.sums import Cost
from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.judge import Findings
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.budget import BudgetSection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir


@dataclass(frozen=True)
class Excess:
    """One limit that a run is expected to exceed, and what follows."""

    where: str
    message: str
    asks: bool


def has_budget(profile: Profile, site: Site | None) -> bool:
    """Return whether the profile or the site limits what the run may cost."""
    return profile.launch.budget is not None or (site is not None and site.budget is not None)


def excesses(
    profile: Profile, site: Site | None, estimated: Sequence[Estimate | None], resumed: RunDir | None = None
) -> tuple[list[Excess], list[str]]:
    """Return the limits that a submission would exceed, and those that cannot be checked.

    Parameters
    ----------
    profile : Profile
        Of the run, or of the first task of an array.
    site : Site or None
    estimated : sequence of Estimate or None
        One for each run of the submission; they share the budget.
    resumed : RunDir, optional
        Run that goes on: its attempts so far count, too.
    """
    used = cost_of_run(resumed).total if resumed is not None else Cost()
    known = [each for each in estimated if each is not None]
    is_known = len(known) == len(estimated)
    prices = site.prices if site else None
    currency = prices.currency if prices else ""
    needs = {
        "gpu_hours": (used.gpu_h, sum(each.gpu_h for each in known) if is_known else None),
        "money": (
            used.money.get(currency, 0.0),
            sum(each.money or 0.0 for each in known) if is_known and all(each.price for each in known) else None,
        ),
    }
    budgets: Mapping[str, BudgetSection | None] = {
        "launch.budget": profile.launch.budget,
        f"budget of {site.source if site else ''}": site.budget if site else None,
    }
    found, doubts = [], []
    for where, budget in budgets.items():
        for name, unit in (("gpu_hours", "GPU h"), ("money", currency)):
            limit = getattr(budget, name, None)
            if budget is None or limit is None:
                continue
            before, after = needs[name]
            if after is None and before <= limit:
                doubts.append(f"{where}: {name} {limit:g} cannot be checked: {_why(name, is_known)}")
            elif before + (after or 0.0) > limit:
                text = _message(limit, unit, before, after or 0.0, known)
                found.append(Excess(f"{where}.{name}", text, budget.if_over == "ask"))
    return found, doubts


def check_budget(
    judged: Sequence[Findings], resumed: RunDir | None = None, steps_done: int = 0, may_ask: bool = True
) -> None:
    """Raise an error if a submission is over its budget; where the budget says so, ask on the terminal first.

    Parameters
    ----------
    judged : sequence of Findings
        Without problems, one for each run of the submission.
    resumed : RunDir, optional
        Run that goes on.
    steps_done : int
        Steps that it has done.
    may_ask : bool
        Whether to ask; otherwise the question is a warning, for a submission that is only looked at.

    Raises
    ------
    ProfileError
        A limit would be exceeded, and nobody has agreed.
    """
    profile, site, source = judged[0].profile, judged[0].site, judged[0].source
    if profile is None or not has_budget(profile, site):
        return
    estimated = [estimate_from_here(each, steps_done=steps_done) for each in judged]
    found, doubts = excesses(profile, site, estimated, resumed)
    asked = [each for each in found if each.asks]
    for text in [*doubts, *(f"{each.where}: {each.message}" for each in asked if not may_ask)]:
        print(f"warning: {text}", file=sys.stderr)
    is_refused = len(asked) < len(found)
    if is_refused or (asked and may_ask and not _agreed(asked)):
        raise ProfileError(source, [Problem(each.where, each.message) for each in found])


def _agreed(asked: Sequence[Excess]) -> bool:
    """Return whether somebody on a terminal agrees; False where there is no terminal."""
    if not sys.stdin.isatty():
        return False
    for each in asked:
        print(f"{each.where}: {each.message}", file=sys.stderr)
    print("Start it all the same? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _why(name: str, is_known: bool) -> str:
    if not is_known:
        return "no earlier run of this shape is in launch.runs_dir, and the work of its steps is not known"
    return "there is no price for this machine" if name == "money" else "the need is not known"


def _message(limit: float, unit: str, used: float, needed: float, known: Sequence[Estimate]) -> str:
    parts = [f"{used:.3g} used so far"] if used else []
    if needed:
        rough = " (an estimate; it may be wrong by a factor of two)" if any(each.is_rough for each in known) else ""
        parts.append(f"about {needed:.3g} to come{rough}")
    return f"allows {limit:g} {unit}, but {' and '.join(parts)}; shorten the run or raise the budget"
