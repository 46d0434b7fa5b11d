"""The base of families that learn labels: everything but the network. No torch here.

A family of your own needs a section with a key ``labels`` of type :data:`~hpctrain.families.labels.section.Labels`
(and ``labels`` among its `fixed` and `pinned` keys), and a network that is a subclass of
:class:`~hpctrain.families.labels.network.LabelNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.family import Family
from hpctrain.families.labels.judge import check_labels
from hpctrain.families.shown import Card, Column, Curve, Panel

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.labels.network import LabelNetwork
    from hpctrain.families.result_files import Arrays
    from hpctrain.profile.judge import Judge
    from hpctrain.samples.protocols import Batch, Samples


class LabelFamily(Family):
    """A family whose section has ``labels``, and whose network is a ``LabelNetwork``."""

    loss = Curve(
        "loss",
        "Loss",
        unit="loss per label",
        caption="Mean of minus the log of the probability (density) that the model gave to the true labels, before "
        "calibration.",
        log=False,
    )
    against_overfitting = "a smaller network, dropout or weight decay"

    def judge(self, judge: Judge) -> None:
        check_labels(judge)

    def settle(self, section: Any, samples: Samples, rows: np.ndarray, start: Any = None) -> Any:
        from hpctrain.errors import DataError
        from hpctrain.families.labels.columns import settle_label

        before = {label.title: label for label in getattr(start, "labels", ())}
        settled, problems = [], []
        for label in section.labels:
            try:
                settled.append(settle_label(label, samples, rows, before.get(label.title)))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
        return section.model_copy(update={"labels": settled})

    def labels(self, section: Any, samples: Samples) -> Mapping[str, np.ndarray]:
        from hpctrain.families.labels.columns import read_labels

        return read_labels(section.labels, samples)

    def complete(self, model: LabelNetwork, held_out: HeldOut) -> None:
        from hpctrain.families.labels.results import calibrate

        calibrate(model, held_out)

    def learned_entries(self, model: LabelNetwork) -> dict[str, Any]:
        from hpctrain.families.labels.results import calibration_entries

        return {"calibration": calibration_entries(model)}

    def predictions(self, model: LabelNetwork, card: Mapping[str, Any], batch: Batch) -> dict[str, np.ndarray]:
        from hpctrain.families.labels.results import predicted_columns
        from hpctrain.profile.lookup import find_kind

        return predicted_columns(model, find_kind(self.kind).preparation(card)(batch))

    def embedding(self, model: LabelNetwork, card: Mapping[str, Any], batch: Batch) -> np.ndarray | None:
        from hpctrain.families.labels.results import penultimate
        from hpctrain.profile.lookup import find_kind

        return penultimate(model, find_kind(self.kind).preparation(card)(batch))

    def add_columns(
        self, card: Mapping[str, Any], columns: Mapping[str, np.ndarray], read: Callable[[str], np.ndarray]
    ) -> dict[str, np.ndarray]:
        if "conformal" not in card:
            return {}
        from hpctrain.families.labels.conformal import conformal_columns

        return conformal_columns(card["conformal"], card["section"]["labels"], columns, read)

    def columns_of(self, card: Mapping[str, Any]) -> Mapping[str, Column]:
        from hpctrain.families.labels.catalogue import columns_of

        return columns_of(card["section"]["labels"])

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.labels.show import PANELS

        return PANELS

    def cards(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> Sequence[Card]:
        from hpctrain.families.labels.show import cards

        return cards(evaluation, held_out, results)

    def fit_sentence(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> str:
        from hpctrain.families.labels.show import fit_sentence

        return fit_sentence(evaluation, held_out, results)

    def read_results(self, path: Path) -> Arrays:
        from hpctrain.families.result_files import read_arrays

        return read_arrays(path)
