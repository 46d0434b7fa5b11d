"""Both stages of the Dockerfile are built by a real builder, and the image goes through the demo without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctrain.cli import run_command

BASE = "localhost/python-base"
IMAGE = "localhost/hpctrain"
TOOLS = ("buildah", "debootstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # pip installs some eighty packages
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="builds an image of 2 GB; set ALL_FAULTS=1"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a base image"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)}"),
]


class Builder:
    """buildah with a storage of its own.

    Parameters
    ----------
    folder : pathlib.Path
    """

    def __init__(self, folder: Path) -> None:
        self._where = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def __call__(self, *words: object, cwd: Path | None = None) -> str:
        """Run a command of buildah and return the last line that it prints."""
        command = ["buildah", *self._where, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip().rpartition("\n")[2]


@pytest.fixture
def buildah(tmp_path) -> Iterator[Builder]:
    """The builder, with a small Debian with Python as :data:`BASE`; what it made is removed."""
    builder = Builder(tmp_path)
    root = tmp_path / "debian"
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", packages, "bookworm", root, "http://deb.debian.org/debian"],
        check=True,
        capture_output=True,
    )
    # The network of this machine may have a certificate, and torch a place, that a bare Debian does not know.
    shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    lines = ["[global]", f"cert = {CERTIFICATES}", *(f"find-links = {folder}" for folder in local_wheels())]
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")
    container = builder("from", "scratch")
    builder("add", container, root, "/")
    builder("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    builder("commit", container, BASE)
    shutil.rmtree(root)
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


def local_wheels() -> list[str]:
    return [folder for folder in os.environ.get("PIP_FIND_LINKS", "").split() if Path(folder).is_dir()]


def test_both_stages_are_built_and_the_image_goes_through_the_demo_without_rights(buildah, tmp_path):
    own = tmp_path / "starnet"
    own.mkdir()
    (own / "pyproject.toml").write_text('[project]\nname = "starnet"\nversion = "1.0"\n')
    (own / "starnet.py").write_text("ANSWER = 42\n")
    folder = tmp_path / "image"
    assert run_command("image", ["--out", str(folder), "--base", BASE, "--package", str(own)]) == 0

    mounts = [word for wheels in local_wheels() for word in ("--volume", f"{wheels}:{wheels}:ro")]
    buildah("build", "--isolation", "chroot", *mounts, "--tag", IMAGE, ".", cwd=folder)
    container = buildah("from", IMAGE)

    def run(line: str) -> str:
        return buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", line)

    assert run("echo $(id -u):$(id -g) $(pwd) $HOME") == "1000:1000 /tmp /tmp"
    assert run("ls -d /opt/*") == "/opt/env"
    assert run("touch /opt/env/here 2>/dev/null || echo refused") == "refused"
    assert run("python3 -c 'import hpctrain.launch.pod, starnet; print(starnet.ANSWER)'") == "42"
    assert run("hpctrain demo").startswith("The demo took ")
