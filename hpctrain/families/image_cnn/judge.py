"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctrain.families.image_cnn.encoders.plans import PLANS
from hpctrain.families.image_cnn.weights import check_encoder, check_size

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge

NUMBERS_OF_VIEWS = (1, 2, 4, 8)


def check_network(judge: Judge) -> None:
    """Judge the number of stages against the size of the images, and the views."""
    model, data = judge.profile.model, judge.profile.data
    if model.views not in NUMBERS_OF_VIEWS:
        judge.problem(f"{model.views} is not one of {', '.join(map(str, NUMBERS_OF_VIEWS))}", "model.views")
    check_encoder(judge)
    side = data.crop or (None if data.simulate is None else data.simulate.num_pixels)
    if side is None:
        return
    where = "data.crop" if data.crop else "data.simulate"
    if model.encoder in PLANS:
        check_size(judge, side // data.bin, where)
        return
    halvings = model.first_stride * 2 ** (len(model.channels) - 1)
    if halvings > side // data.bin:
        message = (
            f"{len(model.channels)} stages make one pixel of {halvings}, but an image has {side // data.bin}; use fewer"
        )
        judge.problem(message, "model.channels", where)
