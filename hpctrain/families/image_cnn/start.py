"""The weights that a run begins with: those of an encoder of timm, or of another run of this family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import CheckpointError, DataError
from hpctrain.families.image_cnn.encoders.names import misfits, renamed
from hpctrain.families.image_cnn.encoders.plans import PLANS
from hpctrain.families.image_cnn.encoders.tensors import read_tensors
from hpctrain.families.image_cnn.weights import is_own
from hpctrain.families.store import read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from hpctrain.families.family import TrainingSamples
    from hpctrain.families.image_cnn.network import ImageNetwork
    from hpctrain.families.image_cnn.pretrained import PretrainedCNN
    from hpctrain.families.image_cnn.section import ImageCNNSection

NUM_IMAGES = 64
"""Largest number of training images that say which pixel value is black and which is white."""

BLACK_WHITE = (5.0, 99.8)
"""Percentiles of pixel values that are to be black and white; pictures of the report have the same."""

_HEADS = "heads."


def load_start(model: ImageNetwork, section: ImageCNNSection, samples: TrainingSamples) -> Iterator[None]:
    """Load ``model.weights`` into a new network; yield after each piece of work.

    Parameters
    ----------
    model : ImageNetwork
    section : ImageCNNSection
    samples : TrainingSamples

    Raises
    ------
    CheckpointError
        The weights are absent, damaged, or of another network.
    DataError
        No training image has pixels.
    """
    path = Path(section.weights or "")
    if is_own(path):
        load_body(model, read_weights(path), path)
        return
    load_encoder(model, section.encoder, path)
    yield
    model.set_colours(*black_and_white(samples))


def load_body(model: ImageNetwork, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load all weights of another run but those that belong to its labels.

    Raises
    ------
    CheckpointError
        They are those of another network; the message lists all differences.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(_HEADS)}
    found = {name: value for name, value in weights.items() if not name.startswith(_HEADS)}
    lines = [f"  {name}: is only in the {'network' if name in own else 'file'}" for name in own.keys() ^ found.keys()]
    lines += [
        f"  {name}: has shape {tuple(found[name].shape)}, but the network needs {tuple(own[name].shape)}"
        for name in own.keys() & found.keys()
        if own[name].shape != found[name].shape
    ]
    if lines:
        raise CheckpointError(
            f"{path}: is another network; use the bands and the model section of its training\n"
            + "\n".join(sorted(lines))
        )
    model.load_state_dict(dict(found), strict=False)


def load_encoder(model: PretrainedCNN, name: str, path: Path) -> None:
    """Load weights with the names of timm into the encoder.

    Raises
    ------
    CheckpointError
        They cannot be read, or are not those of this encoder; the message lists the differences.
    """
    plan = PLANS[name]
    found = renamed(read_tensors(path), plan)
    lines = misfits({each: tuple(value.shape) for each, value in found.items()}, plan)
    if lines:
        raise CheckpointError(f"{path}: these are no weights of {name}\n" + "\n".join(f"  {line}" for line in lines))
    own = model.encoder.state_dict()
    model.encoder.load_state_dict({each: value.reshape(own[each].shape).float() for each, value in found.items()})


def black_and_white(samples: TrainingSamples) -> tuple[float, float]:
    """Return the values of prepared pixels that are to be black and white, from some of the training images.

    Raises
    ------
    DataError
        They have no pixels that differ.
    """
    rows = samples.rows[:: max(1, len(samples.rows) // NUM_IMAGES)][:NUM_IMAGES]
    values = [batch.image[batch.weight > 0].float().cpu().numpy() for batch in samples.read(rows)]
    pixels = np.concatenate([*values, np.empty(0, np.float32)])
    black, white = np.percentile(pixels, BLACK_WHITE).tolist() if len(pixels) else (0.0, 0.0)
    if not white > black:
        raise DataError("no pixels of the first training images differ, so they cannot be scaled for model.weights")
    return black, white
