"""A newcomer with the wheel alone: a clean home, no git, a strict umask, blanks in all paths, no checkout anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from installation import REPOSITORY, Installation, build, copy_of_the_checkout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="two minutes of CPU time; set ALL_FAULTS=1"),
]
SMALL = ("data.simulate.num_spectra=300", "data.simulate.num_pixels=200", "train.epochs=2", "train.warmup_steps=1")
"""Values of quickstart.yaml with which it trains in a second."""
HIDDEN = ("git", "sbatch", "squeue", "sinfo", "module")
"""Programs that the newcomer does not have."""


class Newcomer:
    """Someone who types commands in a folder of their own.

    Parameters
    ----------
    installation : Installation
        An environment with the wheel.
    folder : Path
        Where they work; its home is beside it.
    """

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation, self.here = installation, folder / "my work"
        programs = folder / "programs"
        for path in (self.here, programs, folder / "home"):
            path.mkdir(parents=True)
        for place in ("/usr/bin", "/bin"):
            for path in Path(place).iterdir():
                if path.name not in HIDDEN and not (programs / path.name).is_symlink():
                    (programs / path.name).symlink_to(path)
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": f"{installation.bin}:{programs}",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "USER": "newcomer",
        }

    def types(self, *words: str, code: int = 0) -> str:
        """Return what a command answers, on both streams; its exit code must be as expected."""
        done = self.installation.run(*words, cwd=self.here, environment=self.environment)
        answer = done.stdout + done.stderr
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{answer}"
        assert "Traceback" not in answer, answer
        assert str(REPOSITORY) not in answer, answer
        return answer


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    folder = tmp_path_factory.mktemp("a newcomer")
    installation = Installation(folder / "my apps/env", build(copy_of_the_checkout(folder / "clone"), "wheel"))
    return Newcomer(installation, folder)


@pytest.fixture(autouse=True)
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def files_of(installation: Installation) -> dict[str, tuple[int, int]]:
    """Return size and time of change of all files of an environment."""
    found = {}
    for path in installation.bin.parent.rglob("*"):
        facts = path.lstat()
        found[str(path)] = (facts.st_size, facts.st_mtime_ns)
    return found


def test_everything_that_a_newcomer_does_works_from_the_wheel_alone(newcomer):
    before = files_of(newcomer.installation)
    types = newcomer.types
    assert "hpctrain COMMAND" in types("hpctrain", "--help")
    types("hpctrain", "init", "quickstart")
    types("hpctrain", "init", "job-script")
    types("hpctrain", "init", "site")
    assert "good" in types("hpctrain", "check", "quickstart.yaml")
    assert "no findings" in types("hpctrain", "lint", "train_hpc.sh")
    types("hpctrain", "schema", "--out", "profile schema.json")
    types("hpctrain", "simulate", "--num-spectra", "300", "--num-pixels", "200", "--out", "my spectra.h5")
    types("hpctrain", "new", "my spectra.h5", "--name", "mine")
    assert "good" in types("hpctrain", "check", "mine.yaml", "--no-memory")
    assert "finished" in types("hpctrain", "local", "quickstart.yaml", "--set", *SMALL)
    types("hpc-submit", "quickstart.yaml", "--cluster", "local", "--wait", "--set", *SMALL, "train.seed=2")
    assert types("hpctrain", "list").count("finished") == 2
    for words in (
        ["status", "quickstart"],
        ["logs", "quickstart"],
        ["report", "quickstart"],
        ["advise", "quickstart"],
        ["validate", "quickstart"],
        ["plot", "quickstart", "loss", "lr"],
        ["plot", "my spectra.h5", "--row", "3", "--out", "a spectrum.png"],
        ["encode", "quickstart", "my spectra.h5", "--out", "latents.h5"],
        ["anomalies", "latents.h5"],
        ["image", "--extras", "remote"],
        ["completion", "bash"],
        ["platforms"],
        ["docs"],
        ["modulefile", "--out", "modules"],
        ["data", "doctor", "my spectra.h5"],
        ["registry", "add", "quickstart", "--name", "first"],
    ):
        types("hpctrain", *words)
    types("hpctrain", "export", "quickstart", "--set", "edge.gates.min_spectra=5")
    [bundle] = newcomer.here.glob("runs/quickstart/*/export/onnx-fp32")
    types("python", "-m", "hpctrain.local", "--infer", str(bundle), "my spectra.h5", "--out", "inferred.h5")
    assert files_of(newcomer.installation) == before  # so it may be read-only


def test_the_demo_starts_from_a_profile_that_the_newcomer_can_edit(newcomer):
    said = newcomer.types("hpctrain", "demo", "--cluster", "local")
    assert "$ hpctrain init quickstart --out demo\n" in said
    assert "$ hpctrain check demo/quickstart.yaml" in said
    assert (newcomer.here / "demo/latents.h5").exists()


def test_without_a_home_directory_a_run_has_no_word_of_it_in_its_log(newcomer):
    newcomer.types("hpctrain", "init", "quickstart", "--out", "homeless")
    there = {**newcomer.environment, "HOME": "/nonexistent/home"}
    words = ["hpctrain", "local", "homeless/quickstart.yaml", "--set", *SMALL, "track.figure_every_steps=5"]
    done = newcomer.installation.run(*words, cwd=newcomer.here, environment=there)
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stdout + done.stderr


def test_pages_that_messages_and_profiles_name_are_in_the_wheel(newcomer):
    sources = [*REPOSITORY.glob("hpctrain/**/*.py"), *REPOSITORY.glob("profiles/*.yaml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r"hpctrain docs ([a-z][a-z-]*)", text)) - {"lists"}
    listed = {line.split()[0] for line in newcomer.types("hpctrain", "docs").splitlines() if line.startswith("  ")}
    assert len(named) > 8
    assert named <= listed
    assert newcomer.types("hpctrain", "docs", "docs/profile.md#train").startswith("# The profile")
    assert "no page 'profil'; did you mean 'profile'?" in newcomer.types("hpctrain", "docs", "profil", code=2)
    assert "requeue:" in newcomer.types("hpctrain", "docs", "--find", "SCONTROL REQUEUE")


def test_batch_scripts_are_linted_where_no_other_package_is_installed(newcomer):
    """As after `pip install --no-deps`: the packages of the environment are out of sight."""
    newcomer.types("hpctrain", "init", "job-script", "--out", "alone")
    [packages] = newcomer.installation.bin.parent.glob("lib/python3*/site-packages")
    code = (
        f"import sys; sys.path.append({str(packages)!r}); from hpctrain.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    script = [sys.executable, "-I", "-S", "-c", code, "lint", "alone/train_hpc.sh"]
    done = subprocess.run(script, cwd=newcomer.here, env=newcomer.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1 file: no findings\n"), done.stderr
