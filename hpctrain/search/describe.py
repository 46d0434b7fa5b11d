"""The text of a dry run: the script, five sampled trials, and the files that would be written."""

from __future__ import annotations

import shlex

from hpctrain.search.sampling import sample
from hpctrain.search.submit import NewStudy
from hpctrain.search.trials import Trial
from hpctrain.states import RUNNING

_NUM_SHOWN = 5


def describe_dry_run(new: NewStudy) -> str:
    """Return what would be submitted; nothing is written."""
    lines = [line for text in new.files().values() for line in (text.rstrip(), "")]
    section, plan = new.section, new.plan
    folds = f", each on {len(section.held_out_folds)} folds" if section.folds else ""
    ranks = f"{plan.resources.nodes} nodes x {plan.resources.ranks_per_node} ranks"
    lines += [f"# nothing was written or submitted; {section.trials} trials{folds}, {section.parallel} at once"]
    lines += [f"# on {new.cluster}, {ranks} of each would run: {shlex.join(plan.command)}"]
    aims = ", ".join(f"{objective.direction} {objective.metric}" for objective in section.objectives)
    lines += [f"# {aims}; sampler {section.sampler.name}, pruner {section.pruner.name}"]
    lines += ["# the first trials, if they all ran at once:"]
    trials: list[Trial] = []
    for number in range(min(_NUM_SHOWN, section.trials)):
        try:
            values, system = sample(section, trials, number)
        except IndexError:
            break
        trials.append(Trial(number, RUNNING, values, system=system))
        lines += [f"#   {number}  {'  '.join(f'{key}={shown(value)}' for key, value in values.items())}"]
    return "\n".join([*lines, f"# folder: {new.directory.path}"])


def shown(value: object) -> str:
    """Return a value as tables show it: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
