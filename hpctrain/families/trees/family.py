"""Decision trees that learn labels of catalogues, as a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.labels.family import LabelFamily
from hpctrain.families.shown import Curve, Panel

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.trees.model import Trees as Model
    from hpctrain.families.trees.section import TreesSection
    from hpctrain.kinds.catalogue.facts import CatalogueFacts
    from hpctrain.profile.judge import Judge
    from hpctrain.samples.protocols import Batch


class Trees(LabelFamily):
    """Labels of objects by a random forest or by gradient boosting."""

    name = "trees"
    kind = "catalogue"
    how = "rounds"
    loss = Curve(
        "loss",
        "Loss",
        unit="loss per label",
        caption="Mean of minus the log of the probability (density) that the model gave to the true labels, before "
        "calibration. Of a forest, the training loss is that of the new trees alone, for objects they have not seen.",
        log=False,
    )
    against_overfitting = "a larger model.min_leaf, a smaller model.max_depth, or fewer trees of method: boosting"

    @property
    def section(self) -> type[TreesSection]:  # pydantic is imported only for a profile
        from hpctrain.families.trees.section import TreesSection

        return TreesSection

    def network(self, section: TreesSection, facts: CatalogueFacts) -> Model:
        from hpctrain.families.trees.model import Trees as Model

        return Model(section, facts)

    def num_rounds(self, section: TreesSection) -> int:
        return section.rounds

    def most_ranks(self, section: TreesSection) -> int:
        return max(1, section.pieces)

    def bytes_per_sample(self, section: TreesSection, sample: int, cores: int) -> int:
        at_once = min(cores, section.pieces)
        densities = sum(label.kind == "density" for label in section.labels)
        return 3 * sample + at_once * (3 * sample + 100) + 20 * densities * section.trees

    def judge(self, judge: Judge) -> None:
        from hpctrain.families.trees.judge import check_trees

        super().judge(judge)
        check_trees(judge)

    def complete(self, model: Model, held_out: HeldOut) -> None:
        from hpctrain.families.labels.results import MOST_TO_CALIBRATE
        from hpctrain.kinds.catalogue.facts import INPUTS

        rows = held_out.rows[:MOST_TO_CALIBRATE]
        if len(rows):
            batch = held_out.samples.read(rows)
            keep = model.usable(batch)
            labels = {name: values[keep] for name, values in batch.labels.items()}
            model.choose_widths(batch[INPUTS][keep].numpy(), labels)
        super().complete(model, held_out)

    def embedding(self, model: Model, card: Mapping[str, Any], batch: Batch) -> np.ndarray:
        from hpctrain.kinds.catalogue.facts import INPUTS
        from hpctrain.profile.lookup import find_kind

        return find_kind(self.kind).preparation(card)(batch)[INPUTS].cpu().numpy()

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.trees.importance import IMPORTANCE

        *first, table = super().panels()
        return (*first, IMPORTANCE, table)

    def write_results(self, model: Model, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.trees.importance import write_importance
        from hpctrain.families.trees.shapley import write_shapley

        super().write_results(model, card, held_out, folder)
        names = tuple(card["facts"]["names"])
        write_importance(model, names, held_out, folder)
        write_shapley(model, names, held_out, folder)


FAMILY = Trees()
