"""Write all drawings: ``python docs/drawings``."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from drawings.all_drawings import texts  # noqa: E402


def main() -> None:
    """Write the two files of each drawing."""
    for name, text in texts().items():
        (DOCS / "img" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
