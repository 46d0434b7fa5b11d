"""How often the test side has been looked at: every look at many models makes its numbers too good. No torch here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.errors import HpctrainError
from hpctrain.profile.files import matching_files
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir, read_json_lines
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, SUSPICION, Finding

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile

FEWEST_MODELS = 2
"""Models from which a user may have chosen among them by the test side."""

_OF_TEST = ("test", "salt", "by", "ra", "dec", "nside", "column", "stratify", "folds", "test_fold")
"""Keys of ``data.split`` that decide which objects the test side has."""


@dataclass(frozen=True)
class Look:
    """One look of somebody at the test side of a run: the run, and a line of its ``test-looks.jsonl``."""

    run: Path
    record: dict[str, Any]

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(self.record.get("time", 0))))
        name = f"{self.run.parent.name}/{self.run.name}"
        return f"{when} {self.record.get('user', '?')}: {self.record.get('command', '?')} of {name}"


def find_looks(profile: Profile) -> Iterator[Finding]:
    """Yield a finding if several models of ``launch.runs_dir`` have been judged by the test side of this profile."""
    if not profile.data.split.test_share:
        return
    looks = list(_looks(profile))
    models = {look.run for look in looks}
    if len(models) < FEWEST_MODELS:
        return
    studies = [run.parent for run in models if (run.parent / "study.yaml").exists()]
    in_search = len(studies) > len(set(studies))
    yield Finding(
        LEAK if in_search else SUSPICION,
        "test-in-search" if in_search else "test-looks",
        f"{len(models)} models have been judged by this test side, in {len(looks)} looks"
        + (", several of them trials of one search" if in_search else ""),
        "whoever chooses among models by the test side has no unseen objects left for the last number",
        "choose by the validation side; for a new test side change data.split.salt, and train anew",
        len(looks),
        "data.split.test",
        [str(look) for look in sorted(looks, key=lambda each: -float(each.record.get("time", 0)))[:MOST_EXAMPLES]],
    )


def _looks(profile: Profile) -> Iterator[Look]:
    files, wanted = _files(profile), _test_of(profile)
    folder = Path(profile.launch.runs_dir)
    for path in sorted([*folder.glob("*/*/test-looks.jsonl"), *folder.glob("*/*/*/test-looks.jsonl")]):
        run = RunDir(path.parent)
        try:
            other = load_profile(run.profile)
        except HpctrainError:
            continue
        if _test_of(other) == wanted and _files(other) & files:
            yield from (Look(run.path, record) for record in read_json_lines(path))


def _files(profile: Profile) -> set[Path]:
    return {path.resolve() for pattern in profile.data.files for path in matching_files(pattern)}


def _test_of(profile: Profile) -> dict[str, Any]:
    return profile.data.split.model_dump(include=set(_OF_TEST))
