"""Studies in folders, whose trials tests fill with the files that real ones have."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import TINY, profile_values
from search_parts import section_of

from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.search.folder import StudyDir, StudyRecord, write_study


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., StudyDir]:
    """Return a function that writes the folder of a study that was submitted to this machine."""

    def make(**changes: Any) -> StudyDir:
        study = StudyDir(tmp_path / "runs/searched/20261126-120000-abcd")
        study.path.mkdir(parents=True)
        section = section_of(**changes)
        write_study(study, section)
        tiny = TINY["spectral_vae"]
        values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
        study.base.write_text(dump_profile(profile_of({**values, "name": "searched"})))
        study.write_record(StudyRecord("local", time.time(), section.trials))
        return study

    return make
