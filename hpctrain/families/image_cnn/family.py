"""The residual network that learns labels of images, as a model family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.image_cnn.judge import check_network
from hpctrain.families.labels.family import LabelFamily
from hpctrain.families.shown import Panel

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.families.family import TrainingSamples
    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.image_cnn.network import ImageNetwork as Network
    from hpctrain.families.image_cnn.section import ImageCNNSection
    from hpctrain.kinds.images.facts import ImageFacts
    from hpctrain.kinds.images.images import ImageSet
    from hpctrain.profile.judge import Judge


class ImageCNN(LabelFamily):
    """Labels of images by convolutions."""

    name = "image_cnn"
    kind = "images"
    against_overfitting = "data.augment, a smaller network, model.dropout, or more train.weight_decay"

    @property
    def section(self) -> type[ImageCNNSection]:  # pydantic is imported only for a profile
        from hpctrain.families.image_cnn.section import ImageCNNSection

        return ImageCNNSection

    def network(self, section: ImageCNNSection, facts: ImageFacts) -> Network:
        from hpctrain.families.image_cnn.encoders.plans import RESIDUAL

        if section.encoder == RESIDUAL:
            from hpctrain.families.image_cnn.network import ImageCNN as Residual

            return Residual(section, facts)
        from hpctrain.families.image_cnn.pretrained import PretrainedCNN

        return PretrainedCNN(section, facts)

    def has_start(self, section: ImageCNNSection) -> bool:
        return section.weights is not None

    def start(self, model: Network, section: ImageCNNSection, samples: TrainingSamples) -> Iterator[None]:
        from hpctrain.families.image_cnn.start import load_start

        yield from load_start(model, section, samples)

    def judge(self, judge: Judge) -> None:
        super().judge(judge)
        check_network(judge)

    def settle(self, section: Any, samples: ImageSet, rows: np.ndarray, start: Any = None) -> Any:
        from hpctrain.errors import DataError

        height, width = samples.prepared_shape
        if section.views == 8 and height != width:
            raise DataError(
                f"model.views: 8 needs square images, but they have {height} × {width} pixels; set data.crop, or use "
                "4 views"
            )
        return super().settle(section, samples, rows, start)

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.image_cnn.detection import DETECTION
        from hpctrain.families.image_cnn.saliency import SALIENCY

        *first, table = super().panels()
        return (DETECTION, *first, SALIENCY, table)

    def write_results(self, model: Network, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.image_cnn.detection import write_detection
        from hpctrain.families.image_cnn.saliency import write_saliency

        super().write_results(model, card, held_out, folder)
        write_detection(model, folder)
        write_saliency(model, held_out, folder)


FAMILY = ImageCNN()
