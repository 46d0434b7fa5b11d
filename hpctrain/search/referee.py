"""What rank 0 of a trial asks after each evaluation: record the objectives, and say whether the trial is hopeless."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.rundir import read_json, write_json
from hpctrain.search.folder import TrialDir
from hpctrain.search.measured import OF_MODEL
from hpctrain.search.mirror import mirror_own
from hpctrain.search.pruning import is_hopeless
from hpctrain.search.section import WILCOXON
from hpctrain.search.trials import TrialReader, curve_of


class StudyReferee:
    """Judges one trial beside all others of its study.

    Parameters
    ----------
    directory : TrialDir
    """

    def __init__(self, directory: TrialDir) -> None:
        self._directory = directory
        self._section = directory.study.section()
        self._metrics = [str(each.metric) for each in self._section.objectives if each.metric not in OF_MODEL]
        self._others = TrialReader(directory.study)

    def __call__(self, step: int, found: Mapping[str, Any]) -> bool:
        """Record the objectives of an evaluation; return whether the pruner of the study ends the trial.

        Raises
        ------
        ProfileError
            An objective is not among the metrics.
        """
        if missing := [metric for metric in self._metrics if metric not in found]:
            message = f"no evaluation has {', '.join(map(repr, missing))}; it has {', '.join(sorted(found))}"
            raise ProfileError(str(self._directory.study.study), [Problem("objectives", message)])
        recorded = read_json(self._directory.evaluations, {})
        recorded[str(step)] = [found[metric] for metric in self._metrics]
        write_json(self._directory.evaluations, recorded)
        if self._section.storage is not None:
            mirror_own(self._directory)
        if self._section.pruner.name in ("none", WILCOXON) or not self._metrics:
            return False
        trials = self._others.read()
        number = self._directory.number
        trials[number] = replace(trials[number], evaluations=curve_of(self._directory))
        if not is_hopeless(self._section, trials, number):
            return False
        print(
            f"hpctrain: the study ends trial {number} after the evaluation at step {step}", file=sys.stderr, flush=True
        )
        return True
