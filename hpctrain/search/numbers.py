"""Which trial starts next, where something else than a job array starts trials."""

from __future__ import annotations

from typing import Literal

from hpctrain.search.ask import why_not
from hpctrain.search.folder import StudyDir
from hpctrain.search.trials import GIVEN_BACK, WAITING, TrialReader, is_running
from hpctrain.states import PENDING

OVER = "over"


class NextNumber:
    """Gives out each trial at most once, from the files of the study.

    Parameters
    ----------
    study : StudyDir
    """

    def __init__(self, study: StudyDir) -> None:
        self._study = study
        self._reader = TrialReader(study)
        self._given: set[int] = set()

    def next(self) -> int | Literal["over"] | None:
        """Return the number of the next trial.

        Returns
        -------
        int, None or :data:`OVER`
            None if none may start at present: one that another driver started shows heartbeats, and if these end the
            trial is given out here.
        """
        trials = self._reader.read()
        if why_not(self._study, self._study.section(), trials):
            return OVER
        others = [trial for trial in trials if trial.number not in self._given]
        for trial in others:
            if trial.state in (WAITING, PENDING, *GIVEN_BACK):
                self._given.add(trial.number)
                return trial.number
        return None if any(is_running(trial) for trial in others) else OVER
