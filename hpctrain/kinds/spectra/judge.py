"""Rules of the ``data`` section that only spectra have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_columns(judge: Judge) -> None:
    """Report columns that name the same dataset."""
    owner: dict[str, str] = {}
    for field, column in judge.profile.data.columns.model_dump().items():
        if column in owner and column is not None:
            message = f"'{column}' is named for {owner[column]} too; each needs a dataset of its own"
            judge.problem(message, f"data.columns.{field}", f"data.columns.{owner[column]}")
        owner.setdefault(column, field)
