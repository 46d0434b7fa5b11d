"""Keys, and an authority of one's own, for tests of signatures; all by the programs that users have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpctrain.signing.keys import make_keys

model_signing = pytest.importorskip("model_signing")


def keys_in(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; return the files of the private and of the public one."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    make_keys(private, public)
    return private, public


def openssl(folder: Path, *commands: str) -> None:
    """Run commands of openssl in a folder, as docs/security.md has them."""
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
