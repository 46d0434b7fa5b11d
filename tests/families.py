"""The smallest useful profile of every model family; the contract suite runs over all of them.

A new family of hpctrain adds an entry here, and a new kind of data a module in ``tests/kinds``. Each label makes an
export take longer: ``spectral_cnn`` and ``trees`` have all kinds of labels, so others need not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinds import catalogue, images, light_curves, spectra, table

EXAMPLES = Path(__file__).resolve().parents[1] / "docs"
"""Folder on Python's path for the families of ``docs/examples``, which are not part of hpctrain."""


NETWORK = {"batch_size": 8, "accumulation": 2, "epochs": 4, "warmup_steps": 3, "evaluate_every_steps": 4}
"""Section ``train`` of a network: twelve steps, and evaluations that fall between checkpoints."""

ROUNDS = {"batch_size": 8, "evaluate_every_steps": 4}
"""Section ``train`` of a model that learns in nine rounds."""

CATALOGUE = {"features": ["g", "r", "i"], "differences": [["g", "r"]], "errors": {"g": "g_err"}}
"""Keys of section ``data`` for the tiny catalogue."""

CURVES = {"bands": ["g", "r"], "fold": "period", "features": ["colour"], "augment": {"cut": 0.3, "drop": 0.2}}
"""Keys of section ``data`` for the tiny light curves."""


@dataclass(frozen=True)
class Tiny:
    """One family as small as it can be.

    Parameters
    ----------
    model : dict
        Section ``model`` of the profile.
    tiny_file : callable
        Writes a file of its kind of data.
    train : dict
        Section ``train``.
    data : dict
        More keys of section ``data``.
    """

    model: dict[str, Any]
    tiny_file: Callable[..., Path]
    train: dict[str, Any] = field(default_factory=lambda: dict(NETWORK))
    data: dict[str, Any] = field(default_factory=dict)


TINY: dict[str, Tiny] = {
    "spectral_vae": Tiny(
        {
            "family": "spectral_vae",
            "latent_size": 2,
            "encoder_hidden": [8],
            "decoder_hidden": [8],
            "start_simulated": 0,
            "dropout": 0.1,
        },
        spectra.tiny_file,
    ),
    "spectral_vae-convolutions": Tiny(
        {
            "family": "spectral_vae",
            "latent_size": 2,
            "encoder": "convolutional",
            "encoder_channels": [4, 4],
            "encoder_kernels": [3, 3],
            "encoder_hidden": [8],
            "decoder_hidden": [8],
            "start_simulated": 0,
        },
        spectra.tiny_file,
    ),
    "spectral_cnn": Tiny(
        {
            "family": "spectral_cnn",
            "channels": [4, 4],
            "kernels": [3, 3],
            "regions": 4,
            "hidden": [8],
            "dropout": 0.1,
            "labels": [
                {"column": "colour", "kind": "class"},
                {"column": "slope", "kind": "value", "error": "slope_err"},
                {"column": "angle", "kind": "circular", "period": 360},
                {"column": "redshift", "kind": "density", "name": "z", "bins": 16, "spacing": "log1p"},
            ],
        },
        spectra.tiny_file,
    ),
    "trees": Tiny(
        {
            "family": "trees",
            "trees": 18,
            "trees_per_round": 2,
            "min_leaf": 3,
            "labels": [
                {"column": "colour", "kind": "class"},
                {"column": "size", "kind": "value", "error": "size_err"},
                {"column": "angle", "kind": "circular", "period": 360},
                {"column": "redshift", "kind": "density", "name": "z", "bins": 16, "spacing": "log1p"},
            ],
        },
        catalogue.tiny_file,
        ROUNDS,
        CATALOGUE,
    ),
    "trees-boosting": Tiny(
        {
            "family": "trees",
            "method": "boosting",
            "splits": "histogram",
            "trees": 18,
            "trees_per_round": 2,
            "min_leaf": 3,
            "sample": 0.8,
            "labels": [
                {"column": "colour", "kind": "class", "class_weights": "balanced"},
                {"column": "size", "kind": "value", "error": "size_err"},
            ],
        },
        catalogue.tiny_file,
        ROUNDS,
        CATALOGUE,
    ),
    "image_cnn": Tiny(
        {
            "family": "image_cnn",
            "channels": [4, 8],
            "hidden": [8],
            "dropout": 0.1,
            "labels": [
                {"column": "colour", "kind": "class"},
                {"column": "size", "kind": "value", "error": "size_err"},
            ],
        },
        images.tiny_file,
        data={"augment": {"shift": 1}},
    ),
    "light_curve_transformer": Tiny(
        {
            "family": "light_curve_transformer",
            "width": 8,
            "layers": 1,
            "heads": 2,
            "harmonics": 3,
            "hidden": [8],
            "labels": [
                {"column": "activity", "kind": "class"},
                {"column": "angle", "kind": "circular", "period": 360},
            ],
        },
        light_curves.tiny_file,
        data={**CURVES, "max_points": 16},
    ),
    "light_curve_transformer-gru": Tiny(
        {
            "family": "light_curve_transformer",
            "encoder": "gru",
            "width": 8,
            "layers": 1,
            "hidden": [8],
            "labels": [{"column": "activity", "kind": "class"}],
        },
        light_curves.tiny_file,
        data={"bands": ["g", "r"], "max_points": 8, "normalise": "band", "buckets": 2},
    ),
    "linear_autoencoder": Tiny(
        {"family": "examples.linear_autoencoder", "num_components": 3},
        spectra.tiny_file,
    ),
    "clusters": Tiny(
        {"family": "clusters", "clusters": [2, 3, 4], "resamples": 2, "starts": 2, "label": "colour"},
        catalogue.tiny_file,
        ROUNDS,
        CATALOGUE,
    ),
    "table": Tiny(
        {"family": "examples.table", "num_clusters": 3, "rounds": 9},
        table.tiny_file,
        ROUNDS,
    ),
}
"""Shipped families, and two that a user could write: a network on spectra, and rounds on a kind of its own."""


def profile_values(tiny: Tiny, path: Path, **changes: Any) -> dict[str, Any]:
    """Return the plain values of a small profile, with changes of its sections."""
    values = {
        "name": "tiny",
        "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "signal_lead_s": 5},
        "data": {"files": [str(path)], "reader_threads": 1, "split": {"validation": 0.2}, **tiny.data},
        "model": tiny.model,
        "train": {"log_every_steps": 1, "device": "cpu", **tiny.train},
        "checkpoint": {"every_steps": 3},
        "track": {"tensorboard": False},
    }
    return {key: value | changes.get(key, {}) if isinstance(value, dict) else value for key, value in values.items()}
