"""A fake Kubernetes cluster for a test: ``fake_kubectl.py`` on the PATH, and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until

FAKE = Path(__file__).with_name("fake_kubectl.py")


class FakeCluster:
    """The cluster behind ``kubectl``; use :func:`fake_cluster`.

    Parameters
    ----------
    folder : Path
        For its objects and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "objects").mkdir()
        program = folder / "bin/kubectl"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
        program.chmod(0o755)
        self.variables = {
            "FAKE_CLUSTER": str(folder / "objects"),
            # The image's python3 is that of the tests.
            "PATH": os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def objects(self, resource: str) -> list[dict[str, Any]]:
        """Return all objects of a resource, such as ``pods``."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "objects" / resource).glob("*.json"))]

    def said(self) -> str:
        """Return what all pods and controllers have printed."""
        return "".join(path.read_text() for path in sorted((self.folder / "objects").glob("*.log")))

    def close(self) -> None:
        """Delete all jobs and wait until their pods have gone."""
        for path in (self.folder / "objects").glob("*.*/*.json"):
            path.unlink()
        pattern = f"FAKE_CLUSTER={self.folder / 'objects'}"
        wait_until(lambda: not _with_variable(pattern), self.said)


def _with_variable(pattern: str) -> list[str]:
    """Return the numbers of the processes that have this variable, but for those of this test."""
    mine = str(os.getpid())
    done = subprocess.run(
        ["grep", "-lszF", pattern, *map(str, Path("/proc").glob("[0-9]*/environ"))], capture_output=True, text=True
    )
    return [path for path in done.stdout.split() if f"/{mine}/" not in path]


@contextlib.contextmanager
def fake_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Yield a cluster that ``kubectl`` of this process finds."""
    cluster = FakeCluster(folder)
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    try:
        yield cluster
    finally:
        cluster.close()
