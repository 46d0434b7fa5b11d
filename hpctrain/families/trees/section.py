"""The ``model`` section of a profile with ``model.family: trees``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpctrain.families.labels.section import LABELS_ARE_FIXED, Labels
from hpctrain.profile.sections.model import ModelSection

GROWN = "the trees of the checkpoint were grown with it"
"""Reason why a resumed run cannot change a key that decides how trees grow."""

FOREST, BOOSTING = "forest", "boosting"
EXACT, HISTOGRAM = "exact", "histogram"


_HOW_TREES_GROW = (
    "method",
    "trees_per_round",
    "min_leaf",
    "max_depth",
    "features_per_split",
    "sample",
    "splits",
    "learning_rate",
)


class TreesSection(ModelSection):
    """Decision trees that learn labels of objects. A round grows some of them."""

    fixed: ClassVar[Mapping[str, str]] = {
        **ModelSection.fixed,
        **dict.fromkeys(_HOW_TREES_GROW, GROWN),
        "labels": LABELS_ARE_FIXED,
    }
    pinned: ClassVar[tuple[str, ...]] = ("labels",)

    method: Literal["forest", "boosting"] = "forest"
    """``forest``: independent trees, whose mean is the prediction; it learns all kinds of labels. ``boosting``: each
    tree corrects the ones before; it learns classes and values."""
    trees: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Trees of each label; ``boosting`` grows two for a value, the second one for its standard deviation."""
    trees_per_round: Annotated[int, Field(ge=1, le=1000)] = 10
    """Trees of a round, which is a step of the run. A forest grows them at the same time on the cores of the rank."""
    min_leaf: Annotated[int, Field(ge=1)] = 10
    """Smallest number of training objects in a leaf."""
    max_depth: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Largest depth of a tree; if unset, 4 for ``boosting`` and without limit for ``forest``."""
    features_per_split: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the columns that each split chooses from, at random."""
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Training objects of a tree as a share of all: drawn with replacement for ``forest``, without for ``boosting``."""
    splits: Literal["exact", "histogram"] = "exact"
    """Thresholds that a tree of ``boosting`` chooses from: ``exact`` tries one between any two values of an input,
    ``histogram`` one between any two of 255 intervals with about as many objects each, which is much faster."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the correction of a tree that ``boosting`` adds."""
    labels: Labels = []
    """The columns to learn; at least one."""

    @property
    def depth(self) -> int | None:
        """Largest depth of a tree; None without limit."""
        return 4 if self.max_depth is None and self.method == BOOSTING else self.max_depth

    @property
    def rounds(self) -> int:
        """Number of rounds, of which the last one may grow more trees than are needed."""
        return -(-self.trees // self.trees_per_round)

    @property
    def uses_histograms(self) -> bool:
        """Whether trees split between intervals."""
        return self.method == BOOSTING and self.splits == HISTOGRAM

    @property
    def pieces(self) -> int:
        """Number of pieces of work in a round that need not wait for each other: trees of ``forest``, labels of
        ``boosting``."""
        return len(self.labels) * (self.trees_per_round if self.method == FOREST else 1)
