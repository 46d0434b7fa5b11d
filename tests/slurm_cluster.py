"""A real Slurm for the tests: ``slurm/lab`` held up by the test session, and gone with it however that ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from processes import wait_until

REPOSITORY = Path(__file__).resolve().parents[1]

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""States a job does not leave by itself."""

PACKAGES = "slurmctld slurmd slurm-client munge"


def missing_commands() -> list[str]:
    """Return the commands of Slurm and munge that this machine lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    needed = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "munged")
    return [name for name in needed if not shutil.which(name, path=path)]


class SlurmCluster:
    """Four pretend nodes with four pretend GPUs each, in a private directory.

    Parameters
    ----------
    options : sequence of str
        Further options of ``slurm/lab up``, such as ``--private-hosts``.

    Attributes
    ----------
    directory : Path
        Where the lab lives: ``etc/slurm.conf``, ``log/slurmctld.log`` ...
    nodes : list of str
        Names of the nodes.
    env : dict
        Environment for every Slurm command and for the toolkit under test.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="hl-", dir="/tmp")).resolve()
        # The holder takes the lab down when its stdin closes, which a killed pytest does too; it has a session of its
        # own, so that Ctrl-C reaches the tests first.
        self._holder = subprocess.Popen(
            [str(REPOSITORY / "slurm/lab"), "up", str(self.directory), "--hold", "--quiet", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():  # it prints the directory once all nodes are idle
            raise RuntimeError(f"slurm/lab did not come up: {self._holder.communicate()[1]}")
        facts = json.loads((self.directory / "lab.json").read_text())
        self.nodes: list[str] = facts["nodes"]
        self.env = {**os.environ, "SLURM_CONF": str(self.directory / "etc/slurm.conf")}
        self._scratch: list[Path] = []

    def close(self) -> None:
        """Take the lab down and remove the directories handed out."""
        self._holder.communicate(timeout=600)  # closes stdin
        for path in self._scratch:
            shutil.rmtree(path, ignore_errors=True)

    def fresh_dir(self) -> Path:
        """Return a new directory with a short path, open to all, that lives as long as the cluster."""
        path = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp")).resolve()
        path.chmod(0o755)
        self._scratch.append(path)
        return path

    def run(
        self,
        command: Sequence[str | os.PathLike[str]] | str,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that finds this cluster; a string goes through the shell.

        Raises
        ------
        AssertionError
            It failed and `check` is true; shows what it printed.
        """
        done = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=cwd,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def sbatch(self, *arguments: str | os.PathLike[str], cwd: Path | None = None) -> str:
        """Submit a batch job and return its id."""
        return self.run(["sbatch", "--parsable", *arguments], cwd=cwd).stdout.strip().split(";")[0]

    def job(self, job_id: str) -> dict[str, str]:
        """Return what scontrol knows of a job (``JobState``, ``Restarts``, ``NodeList`` ...); empty once forgotten."""
        done = self.run(["scontrol", "show", "job", "-o", str(job_id)], check=False)
        return dict(re.findall(r"(\S+?)=(\S*)", done.stdout)) if done.returncode == 0 else {}

    def wait_for(self, job_id: str, states: str | Collection[str] = ENDED) -> str:
        """Wait until a job is in one of `states` and return that state.

        Raises
        ------
        AssertionError
            It ended otherwise, or nothing changes for very long.
        """
        wanted = {states} if isinstance(states, str) else set(states)
        seen: list[str] = []

        def arrived() -> bool:
            job = self.job(job_id)
            seen.append(job.get("JobState", "UNKNOWN"))
            assert seen[-1] in wanted or seen[-1] not in ENDED, (
                f"job {job_id} is {seen[-1]}, not {sorted(wanted)}: {job}"
            )
            return seen[-1] in wanted

        wait_until(arrived, f"job {job_id} {sorted(wanted)}", pause_s=0.1)
        return seen[-1]

    def cancel_all(self) -> None:
        """Cancel every job and give the nodes back."""
        jobs = sorted(set(self.run(["squeue", "-h", "-a", "-o", "%A"]).stdout.split()))
        if not jobs:
            return
        self.run(["scancel", "--signal=KILL", "--full", *jobs], check=False)
        self.run(["scancel", *jobs], check=False)
        wait_until(
            lambda: not self.run(["squeue", "-h", "-a", "-o", "%A"]).stdout.strip(), "an empty queue", pause_s=0.1
        )
