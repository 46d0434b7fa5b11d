"""The statements of a page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path


def statements(page: Path) -> list[str]:
    """Return each statement in the blocks of SQL of a page."""
    blocks = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    return [each.strip() for block in blocks for each in block.split(";") if each.strip()]
