"""Rules of a start from an earlier run: it may have trained on objects that this profile holds out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpctrain.errors import ProfileError
from hpctrain.profile.files import matching_files
from hpctrain.profile.judge import Judge
from hpctrain.profile.reading import read_plain
from hpctrain.profile.sections.data import SplitSection


def check_same_split(judge: Judge, run: Path, key: str) -> None:
    """Warn if a run has split the same files in another way.

    Parameters
    ----------
    judge : Judge
    run : Path
        Its directory; one without a profile is not judged.
    key : str
        Key of the profile that names the run.
    """
    data = _data_of(run / "profile.yaml")
    ours = judge.profile.data
    if data is None or not _files(data.get("files")) & _files(ours.files):
        return
    try:
        theirs = SplitSection.model_validate(data.get("split") or {})
    except ValidationError:
        return
    if theirs.model_dump(exclude={"results"}) != ours.split.model_dump(exclude={"results"}):
        message = (
            f"the run {run.name} has split the same files in another way, so it was trained on objects that are held "
            "out here; use its data.split. hpctrain audit counts these objects"
        )
        judge.warn(message, key, "data.split")


def _data_of(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = read_plain(path).data.get("data")
    except ProfileError:
        return None
    return data if isinstance(data, dict) else None


def _files(patterns: Any) -> set[Path]:
    texts = [pattern for pattern in patterns if isinstance(pattern, str)] if isinstance(patterns, list) else []
    return {path.resolve() for pattern in texts for path in matching_files(pattern)}
