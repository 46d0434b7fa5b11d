"""What is about one kind of data or one model stays with it: the report knows panels, the trainer sums."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "hpctrain"
FOLDERS = ("drawing", "launch", "metrics", "report", "train")
FILES = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
WORDS = re.compile(r"flux|ivar|wavelength|redshift|chi_?2|chi-?square|χ²|latent", re.IGNORECASE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_general_code_uses_no_word_of_spectra(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if WORDS.search(line)] == []
