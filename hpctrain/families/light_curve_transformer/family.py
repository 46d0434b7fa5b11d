"""The network that learns labels of light curves, as a model family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.labels.family import LabelFamily
from hpctrain.families.light_curve_transformer.judge import check_network
from hpctrain.families.shown import Panel

if TYPE_CHECKING:
    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.light_curve_transformer.network import LightCurveTransformer as Network
    from hpctrain.families.light_curve_transformer.section import LightCurveTransformerSection
    from hpctrain.kinds.light_curves.facts import LightCurveFacts
    from hpctrain.profile.judge import Judge


class LightCurveTransformer(LabelFamily):
    """Labels of light curves by attention or a recurrent network."""

    name = "light_curve_transformer"
    kind = "light_curves"
    against_overfitting = "a smaller network, more model.dropout, data.augment, or more train.weight_decay"

    @property
    def section(self) -> type[LightCurveTransformerSection]:  # pydantic is imported only for a profile
        from hpctrain.families.light_curve_transformer.section import LightCurveTransformerSection

        return LightCurveTransformerSection

    def network(self, section: LightCurveTransformerSection, facts: LightCurveFacts) -> Network:
        from hpctrain.families.light_curve_transformer.network import LightCurveTransformer as Network

        return Network(section, facts)

    def judge(self, judge: Judge) -> None:
        super().judge(judge)
        check_network(judge)

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.light_curve_transformer.early import EARLY

        first, *others = super().panels()
        return (first, EARLY, *others)

    def write_results(self, model: Network, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.light_curve_transformer.early import write_early

        super().write_results(model, card, held_out, folder)
        write_early(model, held_out, folder)


FAMILY = LightCurveTransformer()
