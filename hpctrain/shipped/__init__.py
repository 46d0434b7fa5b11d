"""What comes with the program besides code: profiles, site files, the job script, the pretend Slurm cluster, the pins,
the documentation.

In a checkout, ``constraints.txt``, ``docs``, ``profiles`` and ``slurm`` here are links to what has that name at its
top. A wheel holds copies.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder, such as ``profiles/quickstart.yaml``."""
    return (_FOLDER / name).resolve()
