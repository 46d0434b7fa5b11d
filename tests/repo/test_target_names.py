"""Code asks a target what it can do, never for its name; only the registry and the targets know the names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hpctrain.plugins import TARGETS

PACKAGE = Path(__file__).resolve().parents[2] / "hpctrain"
FOLDERS = ("commands", "edge", "launch", "metrics", "profile", "report", "train", "verify")
OTHER_WORDS = PACKAGE / "metrics/exporters/mlflow_data.py"  # MLflow calls a file on a disk "local"
MACHINES = PACKAGE / "profile/instances.py"  # a table of what each cloud rents out
KNOW_NAMES = {PACKAGE / "profile/targets.py", OTHER_WORDS, MACHINES, *PACKAGE.glob("launch/targets/*.py")}
FILES = sorted({path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")} - KNOW_NAMES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_code_names_a_target(path):
    found = [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in TARGETS
    ]
    assert found == []
