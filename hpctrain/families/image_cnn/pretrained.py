"""An encoder whose weights come from a file, and labels from its features. N images, B bands, H × W pixels, F features.

::

    image, weight ─▶ three colours ─▶ encoder of timm without its classifier (F) ─▶ perceptron ─▶ labels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.families.image_cnn.encoders.build import build
from hpctrain.families.image_cnn.encoders.plans import PLANS
from hpctrain.families.image_cnn.network import ImageNetwork, perceptron

if TYPE_CHECKING:
    from hpctrain.families.image_cnn.section import ImageCNNSection
    from hpctrain.kinds.images.facts import ImageFacts

RED_GREEN_BLUE = ("R", "G", "B")
"""Names of the bands of a JPEG or PNG."""


class PretrainedCNN(ImageNetwork):
    """An encoder that timm has too.

    Parameters
    ----------
    section : ImageCNNSection
        With settled labels.
    facts : ImageFacts
    """

    def __init__(self, section: ImageCNNSection, facts: ImageFacts) -> None:
        self.plan = PLANS[section.encoder]
        super().__init__(section, facts, self.plan.num_features)
        self.colours = nn.Conv2d(len(facts.bands) + 1, 3, 1)
        self.set_colours(0.0, 1.0)
        self.encoder = build(self.plan)
        self.perceptron = perceptron(section, self.plan.num_features)

    def set_colours(self, black: float, white: float) -> None:
        """Let the bands become red, green and blue, scaled as the encoder learned them.

        Parameters
        ----------
        black, white : float
            Values of prepared pixels that are to be black and white.
        """
        shares = torch.from_numpy(shares_of_bands(self.facts.bands)).float()
        mean, deviation = (torch.tensor(values) for values in self.plan.colours)
        with torch.no_grad():
            self.colours.weight.zero_()  # the last channel, where pixels exist, begins without a say
            self.colours.weight[:, :-1, 0, 0] = shares / ((white - black) * deviation[:, None])
            self.colours.bias.copy_((-black / (white - black) - mean) / deviation)

    def features_of(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images with a channel that says where pixels exist, (N, B + 1, H, W)."""
        x = self.encoder.begin(self.colours(x.contiguous(memory_format=torch.channels_last)))
        return self.perceptron(self.encoder.pooled(self.through(self.encoder.each_block(), x))).float()


def shares_of_bands(bands: Sequence[str]) -> np.ndarray:
    """Return the share of each band in red, green and blue, shape (3, B).

    Bands that are called R, G, B are these colours. Otherwise the bands are in the order of their wavelength, as
    surveys have them: blue is the first, red the last, and green the middle one, or the mean of the two in the middle.
    """
    num, found = len(bands), np.zeros((3, len(bands)))
    if tuple(sorted(bands)) == tuple(sorted(RED_GREEN_BLUE)):
        found[np.arange(3), [list(bands).index(name) for name in RED_GREEN_BLUE]] = 1
        return found
    found[0, -1] = found[2, 0] = 1
    for middle in ((num - 1) // 2, num // 2):
        found[1, middle] += 0.5
    return found
