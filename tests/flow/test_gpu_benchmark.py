"""The benchmark that proves hpctrain on a GPU, as far as a CPU can run it, at a size that takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.rows import GOOD, MISSED, SKIPPED, WRONG, Row, check, compare, guarded, table, within

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_all_parts_but_the_killing_run_on_a_cpu_and_are_good(warm_python):
    parts = ("arithmetic", "speed", "device", "memory")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--size", "tiny", "--json", "--only", *parts],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {part: {row["what"]: row for row in rows} for part, rows in json.loads(done.stdout)["parts"].items()}
    assert tuple(found) == parts
    assert found["arithmetic"]["bf16: two runs give the same bits"]["verdict"] == GOOD
    assert found["arithmetic"]["no batch is overwritten in flight"]["verdict"] == GOOD
    assert found["arithmetic"]["GLOO group of one rank gives the same bits"]["verdict"] == GOOD
    assert found["speed"]["bf16: default network, batch 16"]["numbers"]["spectra_per_s"] > 0
    for part, what in (
        ("arithmetic", "fp16: an overflow skips the step, and the scale recovers"),
        ("device", "sensors and energy of the GPU"),
        ("memory", "estimate against reserved memory"),
    ):
        assert "needs a GPU" in found[part][what]["found"]
        assert found[part][what]["verdict"] == SKIPPED


def test_without_a_gpu_it_says_what_can_be_done():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "sees no GPU here; --device cpu runs what a CPU can do" in done.stderr


def test_a_difference_beyond_its_limit_is_wrong_and_a_goal_beyond_reach_is_missed():
    assert within("difference", 2e-3, 1e-3, "2e-3").verdict == WRONG
    assert within("difference", float("nan"), 1e-3, "nan").verdict == WRONG
    assert compare("ratio", 1.2, 1.01, "1.2").verdict == MISSED
    assert compare("share", 0.98, 0.97, "0.98", at_least=True).verdict == GOOD
    assert check("bits", False, "other bits").is_bad


def test_an_error_in_a_check_is_a_row_and_the_others_go_on():
    def look():
        yield check("first", True, "fine")
        raise ValueError("a wrong\nshape")

    rows = list(guarded("second", look))
    assert [row.verdict for row in rows] == [GOOD, WRONG]
    assert rows[1].found == "ValueError: a wrong | shape"
    assert Row.read(rows[1].line()) == rows[1]
    assert table("arithmetic", rows).splitlines()[2].endswith("second  ValueError: a wrong | shape")
