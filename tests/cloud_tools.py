"""The command line tools of clouds for the tests, faked as a whole: ``gcloud``, ``az`` and ``aws``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hpctrain.checkpoint.whole import MANIFEST, checkpoint_path, manifest_text
from hpctrain.rundir import RunDir, file_digest

_HERE = Path(__file__).parent
_PROGRAMS = {"gcloud": "fake_clouds.py", "az": "fake_clouds.py", "aws": "fake_aws.py"}


def pretended_tools(folder: Path) -> dict[str, str]:
    """Write the tools into ``bin`` of a folder that keeps what they get; return the variables with which they work."""
    (folder / "bin").mkdir(parents=True)
    for name, script in _PROGRAMS.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nFAKE_NAME={name} exec "{sys.executable}" "{_HERE / script}" "$@"\n')
        program.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"FAKE_CLOUDS": str(folder), "FAKE_AWS": str(folder), "PATH": path}


def save_checkpoint(run: RunDir, step: int) -> None:
    """Leave a whole checkpoint in a run directory, as a run has that trained elsewhere."""
    folder = checkpoint_path(run, step)
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"weights")
    facts = {weights.name: {"size": weights.stat().st_size, "sha256": file_digest(weights)}}
    (folder / MANIFEST).write_text(manifest_text(1, step, facts))
