"""What ``hpctrain compare`` is given: runs and cross-validations, and how to compare them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.launch.runs import find_run

if TYPE_CHECKING:
    from hpctrain.search.folder import StudyDir
    from hpctrain.validation.comparison.compare import Asked
    from hpctrain.validation.comparison.entrants import Entrant
    from hpctrain.validation.judged import Judged


def read_request(args: argparse.Namespace) -> tuple[list[Entrant], Asked]:
    """Return the runs of a command line, and how to compare them.

    Raises
    ------
    ProfileError
        There is no such run, there are fewer than two, or the baseline is none of them.
    DataError
        Runs are not finished or have no held-out predictions; the message names all of them.
    """
    from hpctrain.validation.comparison.compare import Asked
    from hpctrain.validation.comparison.groups import SKY

    if len(args.runs) < 2:
        raise ProfileError("command line", [Problem("RUN", "it takes two runs or more to compare")])
    entrants = _read(args.runs, args.runs_dir)
    baseline = None if args.all_pairs else _baseline(args, entrants)
    sky = _sky(entrants[0].judged) if args.by == SKY else {}
    asked = Asked(
        baseline, tuple(args.metric), args.by, shared=args.shared, draws=args.draws, confidence=args.confidence, **sky
    )
    return entrants, asked


def _read(texts: Sequence[str], runs_dir: Path) -> list[Entrant]:
    """Return the runs; raise all errors of all runs at once."""
    from hpctrain.validation.comparison.entrants import Entrant, entrant_names

    found: list[tuple[Judged, object]] = []
    problems, places = [], {}
    for text in texts:
        study = _study(text, runs_dir)
        path = study.path if study is not None else find_run(text, runs_dir).path
        if path in places:
            raise ProfileError("command line", [Problem(text, f"is the same run as {places[path]}")])
        places[path] = text
        try:
            found.append(_folds(study) if study is not None else _single(path))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    names = entrant_names([judged for judged, _ in found])
    return [Entrant(name, judged, folds) for name, (judged, folds) in zip(names, found, strict=True)]  # type: ignore[arg-type]


def _single(path: Path) -> tuple[Judged, None]:
    from hpctrain.rundir import RunDir
    from hpctrain.validation.judged import read_judged

    return read_judged(RunDir(path)), None


def _study(text: str, runs_dir: Path) -> StudyDir | None:
    """Return the cross-validation that a user means; None for a run."""
    from hpctrain.search.folder import StudyDir as Study
    from hpctrain.search.folder import all_studies, is_study
    from hpctrain.search.nested import read_nested

    path = Path(text)
    nested = read_nested(path)
    if nested is not None and nested.tested is not None:
        return nested.tested
    if is_study(path):
        return Study(path)
    if path.exists():
        return None
    return next((study for study in all_studies(runs_dir) if text in (study.name, study.id)), None)


def _folds(study: StudyDir) -> tuple[Judged, object]:
    """Return the predictions of all folds together, and the number of the run that made each."""
    import numpy as np

    from hpctrain.search.out_of_fold import gather, pooled

    parts = gather(study)
    together = pooled(study.name, parts)
    return together, np.repeat(np.arange(len(parts)), [len(part.judged) for part in parts])


def _baseline(args: argparse.Namespace, entrants: Sequence[Entrant]) -> int:
    if args.baseline is None:
        return 0
    named = [args.baseline in (text, each.name) for text, each in zip(args.runs, entrants, strict=True)]
    if True in named:
        return named.index(True)
    path = find_run(args.baseline, args.runs_dir).path
    for place, each in enumerate(entrants):
        if each.judged.run.path == path:
            return place
    reason = f"is none of the runs to compare; they are {', '.join(each.name for each in entrants)}"
    raise ProfileError("command line", [Problem(f"--baseline {args.baseline}", reason)])


def _sky(judged: Judged) -> dict[str, object]:
    """Return columns and resolution of the sky, as the profile of a run has them under ``validate.sky``."""
    from hpctrain.profile.sections.validate import SkySection

    sky = judged.section.sky or SkySection()
    return {"ra": sky.ra, "dec": sky.dec, "nside": sky.nside}
