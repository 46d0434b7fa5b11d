"""The systemd unit in docs/jetson.md is one that systemd takes, and its exit codes are ours."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.errors import EXIT_REQUEUE, CheckpointError, DataError, DivergedError, ProfileError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unit():
    (text,) = re.findall(r"```ini\n(.*?)```", (REPOSITORY / "docs" / "jetson.md").read_text(), re.DOTALL)
    return text


def test_a_saved_run_is_a_success_and_mistakes_are_not_repeated(unit):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(unit)
    service = parser["Service"]
    assert int(service["SuccessExitStatus"]) == EXIT_REQUEUE
    repeating = {error.exit_code for error in (ProfileError, DataError, CheckpointError, DivergedError)}
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == repeating
    assert service["ExecStart"].split()[1:] == ["-m", "hpctrain.local", "profiles/jetson.yaml", "--resume"]


def test_systemd_takes_it(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    path = tmp_path / "hpctrain.service"
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", unit))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "hpctrain.service" in line]
    assert said == [], "\n".join(said)
