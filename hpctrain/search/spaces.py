"""The usual search space of each shipped family: which keys of a profile are worth varying, and how far.

This is their only home. ``hpctrain search init`` writes them as a study file, which a user then edits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpctrain.profile.schema import Profile


@dataclass(frozen=True)
class Varied:
    """A key that varies.

    Parameters
    ----------
    key : str
    values : str
        As YAML in one line. :func:`numbers_of` the base profile has what replaces ``@name@``.
    why : str
        The comment behind it.
    when : dict of str to str
        Other keys and their values, as in a study file.
    """

    key: str
    values: str
    why: str
    when: Mapping[str, str] = field(default_factory=dict)


_BY_GRADIENT = (
    Varied("train.learning_rate", "{low: @rate_low@, high: @rate_high@, log: true}", "what matters most"),
    Varied("train.weight_decay", "{low: 1.0e-4, high: 0.1, log: true}", "large values against overfitting"),
)
_DROPOUT = Varied("model.dropout", "{low: 0.0, high: 0.3, step: 0.05}", "against overfitting")
_BOOSTING = {"model.method": "boosting"}

SPACES: Mapping[str, Sequence[Varied]] = {
    "spectral_vae": (
        *_BY_GRADIENT,
        Varied("model.latent_size", "[4, 6, 8, 10, 12, 16]", "numbers that describe a spectrum"),
        Varied("model.decoder_hidden", "[[], [64], [64, 64], [128, 128]]", "widths; [] is a linear decoder"),
        _DROPOUT,
    ),
    "spectral_cnn": (
        *_BY_GRADIENT,
        Varied("model.channels", "[[16, 32, 64], [32, 64, 128]]", "filters of each convolution"),
        Varied("model.regions", "[16, 32, 64, 128]", "more of them keep the place of a line better"),
        Varied("model.hidden", "[[64], [128], [256], [128, 128]]", "widths of the layers before the labels"),
        _DROPOUT,
    ),
    "image_cnn": (
        *_BY_GRADIENT,
        Varied("model.channels", "[[16, 32, 64], [16, 32, 64, 128], [32, 64, 128, 256]]", "filters of each stage"),
        Varied("model.blocks", "[1, 2, 3]", "depth of each stage"),
        _DROPOUT,
    ),
    "light_curve_transformer": (
        *_BY_GRADIENT,
        Varied("model.encoder", "[transformer, gru]", "all points at once, or one after the other"),
        Varied("model.width", "[@width_small@, @width@, @width_large@]", "multiples of model.heads"),
        Varied("model.layers", "[1, 2, 3, 4]", "depth"),
        Varied("model.harmonics", "[8, 16, 32]", "sines and cosines of the time"),
        _DROPOUT,
    ),
    "trees": (
        Varied("model.method", "[forest, boosting]", "boosting learns classes and values only"),
        Varied("model.trees", "{low: @trees_low@, high: @trees_high@, step: @trees_step@}", "whole rounds"),
        Varied("model.min_leaf", "{low: 1, high: 50, log: true}", "objects in a leaf; many make it smoother"),
        Varied("model.features_per_split", "{low: 0.2, high: 1.0}", "share of the columns; small ones differ more"),
        Varied("model.sample", "{low: 0.5, high: 1.0}", "share of the objects that a tree learns from"),
        Varied("model.max_depth", "[2, 3, 4, 6, 8]", "of boosting; a forest grows without limit", _BOOSTING),
        Varied("model.learning_rate", "{low: 0.02, high: 0.3, log: true}", "of boosting", _BOOSTING),
    ),
    "clusters": (Varied("model.covariance", "[full, tied, diag, spherical]", "shape of the clusters"),),
}
"""Keys of each family. What the base profile cannot have is left out by :func:`space_of`."""

_FIXED_BY_WEIGHTS = ("model.dropout",)
"""Keys of ``model`` that may vary when the weights of another run fix the shape of the network."""


def space_of(family: str, base: Profile) -> list[Varied]:
    """Return the keys to vary for a family and a base profile.

    Parameters
    ----------
    family : str
        A key of `SPACES`.
    base : Profile
    """
    found = list(SPACES[family])
    model = base.model
    if base.train.init_from is not None:
        found = [each for each in found if not each.key.startswith("model.") or each.key in _FIXED_BY_WEIGHTS]
    if family == "image_cnn" and (model.family != family or model.encoder != "residual"):
        found = [each for each in found if each.key not in ("model.channels", "model.blocks")]
    if family == "clusters" and model.method != "mixture":
        return []
    if family == "trees" and any(label.kind not in ("class", "value") for label in model.labels):
        found = [each for each in found if each.key != "model.method" and each.when != _BOOSTING]
    return found


def numbers_of(base: Profile) -> dict[str, str]:
    """Return what the ``@names@`` of the spaces stand for: ranges around, and multiples of, values of the base."""
    model, rate = base.model, base.train.learning_rate
    per_round, heads = getattr(model, "trees_per_round", 1), getattr(model, "heads", 1)
    width = max(heads, getattr(model, "width", 64) // heads * heads)
    step = per_round * max(1, 50 // per_round)
    return {
        "rate_low": f"{max(rate / 10, base.train.final_learning_rate):.1e}",
        "rate_high": f"{min(9.9, rate * 5):.1e}",
        "width_small": str(max(heads, width // 2 // heads * heads)),
        "width": str(width),
        "width_large": str(2 * width),
        "trees_step": str(step),
        "trees_low": str(2 * step),
        "trees_high": str(10 * step),
    }
