"""Whether a pipeline has anything to do, from what its files look like; a schedule may ask this every few minutes."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from pathlib import Path

from hpctrain import __version__
from hpctrain.pipeline.folder import PipelineDir
from hpctrain.pipeline.keys import patterns_of
from hpctrain.pipeline.section import PipelineSection
from hpctrain.rundir import read_json, write_json

FILE = "changed.json"


def look_of(section: PipelineSection) -> str:
    """Return a hash of the pipeline file, its profiles, and of sizes and times of all files from outside."""
    files: list[tuple[str, int, int]] = []
    for stage in section.stages:
        patterns = [*patterns_of(stage, os.getcwd()), *([stage.profile] if stage.profile is not None else [])]
        for path in sorted({path for pattern in patterns for path in glob.glob(pattern, recursive=True)}):
            facts = os.stat(path)
            files.append((path, facts.st_size, facts.st_mtime_ns))
    text = json.dumps([section.model_dump(mode="json"), files, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def has_changed(section: PipelineSection) -> bool:
    """Return whether something differs from the last time through, or that one is not over."""
    from hpctrain.pipeline.run import is_over

    found = read_json(Path(section.folder) / section.name / FILE, {})
    if not isinstance(found, dict) or found.get("look") != look_of(section):
        return True
    pipeline = PipelineDir(str(found.get("pipeline")))
    return not pipeline.file.exists() or not is_over(pipeline)


def note_inputs(pipeline: PipelineDir) -> None:
    """Remember what the files look like as a pipeline begins."""
    look = {"look": look_of(pipeline.section()), "pipeline": str(pipeline.path)}
    write_json(pipeline.path.parent / FILE, look)
