"""The ``budget`` section of a profile's ``launch`` and of a site: the most that one run may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import Section


class BudgetSection(Section):
    """Limits of one run, attempts that have ended included; a submission that is expected to exceed them is stopped."""

    gpu_hours: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Most GPU hours of the run."""
    money: Annotated[float, Field(gt=0, le=1e12)] | None = None
    """Most that the run may cost, in the currency of the site's price list."""
    if_over: Literal["refuse", "ask"] = "refuse"
    """What follows if the run is expected to need more: ``refuse`` it, or ``ask`` on a terminal."""
