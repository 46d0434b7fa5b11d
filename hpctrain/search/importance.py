"""How much of the differences between trials each parameter explains: fANOVA, by Optuna.

References
----------
Hutter, Hoos & Leyton-Brown 2014, "An efficient approach for assessing hyperparameter importance", ICML.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpctrain.search.facts import StudyFacts, evenly
from hpctrain.search.sampling import need_optuna, study_of
from hpctrain.search.space import Parameter
from hpctrain.search.trials import Trial

FEWEST = 10
"""Fewest finished trials that are judged; from fewer the forest learns chance."""
MOST = 300
"""Largest number of trials that are judged, evenly spaced over the study: the time grows with its square."""
_NUM_TREES = 32


@dataclass(frozen=True)
class Importance:
    """Importances within a part of the space.

    Parameters
    ----------
    where : str
        Which trials: empty for all, else the conditions.
    shares : dict of str to float
        Share of the variance that each parameter explains by itself, largest first; the shares add up to 1.
    num_trials : int
        Trials that were judged.
    """

    where: str
    shares: dict[str, float]
    num_trials: int


def importances(facts: StudyFacts, objective: int) -> list[Importance]:
    """Return the importances for one objective: among all trials, and where some parameters exist only under conditions
    once more among the trials that have them.

    Parts with fewer than :data:`FEWEST` trials, or with fewer than two parameters that vary, are left out.

    Raises
    ------
    SiteError
        Optuna is not installed.
    """
    parts = [("", [parameter for parameter in facts.space.parameters if not parameter.section.when])]
    for conditional in facts.space.parameters:
        text = _condition(conditional)
        if text and text not in [where for where, _ in parts]:
            same = [parameter for parameter in facts.space.parameters if _condition(parameter) in ("", text)]
            parts.append((text, same))
    found = [_among(facts, objective, where, parameters) for where, parameters in parts]
    return [each for each in found if each is not None]


def _condition(parameter: Parameter) -> str:
    pairs = sorted(parameter.section.when.items())
    return ", ".join(
        f"{key} is {' or '.join(map(str, wanted)) if isinstance(wanted, list) else wanted}" for key, wanted in pairs
    )


def _among(facts: StudyFacts, objective: int, where: str, parameters: Sequence[Parameter]) -> Importance | None:
    there = [t for t in facts.order if all(parameter.key in t.values for parameter in parameters)]
    varying = [p.key for p in parameters if len({str(trial.values[p.key]) for trial in there}) > 1]
    if len(there) < FEWEST or len(varying) < 2:
        return None
    shares = fanova(facts, evenly(sorted(there, key=lambda trial: trial.number), MOST), varying, objective)
    return Importance(where, shares, min(len(there), MOST))


def fanova(facts: StudyFacts, trials: Sequence[Trial], keys: Sequence[str], objective: int) -> dict[str, float]:
    """Return the share of each parameter, largest first, with a forest of fixed seed."""
    optuna = need_optuna()
    if len({trial.scores[objective] for trial in trials}) == 1:  # type: ignore[index]
        return dict.fromkeys(keys, 0.0)

    def target(trial: Any) -> float:
        return float(trial.values[objective])

    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_NUM_TREES, seed=facts.section.seed)
    study = study_of(facts.section, trials, before=len(facts.trials))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(
            optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(keys), target=target)
        )
