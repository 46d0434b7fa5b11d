"""Installations of this checkout for tests: a copy of its files, what pip builds of them, an environment of a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def copy_of_the_checkout(folder: Path) -> Path:
    """Return a copy of all files that git would commit, in a folder named as a clone is."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    clone = folder / "hpctrain"
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name, follow_symlinks=False)
    return clone


def build(clone: Path, kind: str) -> Path:
    """Build what pip and uv build of a checkout: ``wheel``, or ``editable`` for an editable installation."""
    out = clone.parent / f"built-{kind}"
    out.mkdir()
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = out.glob("*.whl")
    return wheel


class Installation:
    """An environment with one wheel, and the dependencies of the one that runs the tests.

    Parameters
    ----------
    folder : Path
        Where the environment is made.
    wheel : Path
        What is installed; scripts included.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        [packages] = (folder / "lib").glob("python3*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
            [entry_points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
            lines = archive.read(entry_points).decode().splitlines()
        # A path in a .pth file is searched, but the .pth files in it are not read: the checkout stays out of sight.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        for line in lines:
            name, _, target = line.partition(" = ")
            if target:
                module, function = target.split(":")
                # As pip writes it where the path holds a blank, at which the kernel would end it.
                start = f'''#!/bin/sh\n\'\'\'exec\' "{self.bin}/python" "$0" "$@"\n\' \'\'\'\n'''
                script = f"{start}import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
                (self.bin / name).write_text(script)
                (self.bin / name).chmod(0o755)

    def run(
        self, *command: str, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, with our environment variables or with others."""
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(words, cwd=cwd, env=environment or ours, capture_output=True, text=True)
