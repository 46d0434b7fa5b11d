"""Which nodes the next attempt stays away from: the batch script's shell and `status` read one table alike."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hpctrain.launch import history
from hpctrain.launch.history import avoided_nodes
from hpctrain.rundir import RunDir

NOW = 1_800_000_000.0


def by_shell(run: RunDir) -> list[str]:
    """Run the function of attempt.sh itself, with a clock that stands."""
    text = Path(history.__file__).with_name("attempt.sh").read_text()
    function = re.search(r"^nodes_to_avoid\(\) \{.*?^\}", text, re.MULTILINE | re.DOTALL)[0]
    function = function.replace("$(date +%s)", f"{NOW:.0f}")
    done = subprocess.run(
        ["bash", "-c", f"{function}\nstrikes=$1; nodes_to_avoid", "-", str(run.bad_nodes)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [node for node in done.stdout.strip().split(",") if node]


@pytest.mark.parametrize(
    ("strikes", "avoided"),
    [
        ([], []),
        ([(10, "a", "killed")], []),
        ([(20, "a", "killed"), (10, "a", "killed")], ["a"]),
        ([(10, "a", "preflight")], ["a"]),
        ([(90_000, "a", "killed"), (10, "a", "killed")], []),
        ([(9, "a", "preflight"), (8, "b", "preflight"), (7, "a", "killed")], ["a", "b"]),
        ([(9 - k, node, "preflight") for k, node in enumerate("abcdef")], ["f", "e", "d", "c"]),
    ],
)
def test_shell_and_status_avoid_the_same_nodes(tmp_path, strikes, avoided):
    run = RunDir.create(tmp_path, "run")
    lines = [f"{NOW - age_s:.0f}\t{node}\t17\t{reason}\n" for age_s, node, reason in strikes]
    run.bad_nodes.write_text("".join(lines))
    assert avoided_nodes(run, NOW) == avoided
    assert by_shell(run) == avoided


def test_a_run_without_strikes_avoids_nothing(tmp_path):
    assert avoided_nodes(RunDir.create(tmp_path, "run"), NOW) == []
