"""A trained model on disk: weights as safetensors and a card of plain JSON. Neither can run code.

::

    model/
      model.safetensors   the weights
      model.json          format and version, family, section, facts, normalise section, origin
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from hpctrain.errors import CheckpointError
from hpctrain.families import build_model
from hpctrain.families.spectral_vae.grid import RestGrid
from hpctrain.files import NewFile, clear_leftovers
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.profile.schema import ModelSection
from hpctrain.rundir import RunDir, write_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "hpctrain-model"
FORMAT_VERSION = 1
"""Version of the format; it increases when an older reader would misunderstand the file."""

WEIGHTS = "model.safetensors"
CARD = "model.json"
AVERAGED = "ema.safetensors"
"""File of the moving averages of the parameters in a checkpoint; a finished model contains the averages as weights."""


def save_model(
    folder: str | Path, model: nn.Module, section: ModelSection, facts: SpectraFacts, extra: Mapping[str, Any]
) -> None:
    """Write weights and card; write each file as a whole or not at all.

    Parameters
    ----------
    folder : str or Path
        Folder of the model, created if it does not exist; the new model replaces an older one.
    model : torch.nn.Module
        The network, on any device.
    section, facts
        The section and the facts from which the network was built.
    extra : mapping
        More entries of the card (the ``normalise`` section, step, metrics, provenance); plain JSON values.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    clear_leftovers(folder / WEIGHTS)
    with NewFile(folder / WEIGHTS, replace_folders=True) as new:
        # Write one entry only: the library writes several in random order, and equal models must be equal files.
        new.stream.write(save(weights, metadata={"format": f"{FORMAT} {FORMAT_VERSION}"}))
        os.fchmod(new.stream.fileno(), folder.stat().st_mode & 0o666)  # permissions follow those of the folder
    write_card(folder, section, facts, extra)


def write_card(folder: str | Path, section: ModelSection, facts: SpectraFacts, extra: Mapping[str, Any]) -> None:
    """Write ``model.json`` alone. The trainer does so at its start, so that checkpoints can be read as models."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "family": section.family,
        "section": section.model_dump(mode="json"),
        "facts": facts.to_json(),
        **extra,
    }
    write_json(folder / CARD, card)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read and check a ``model.json``.

    Raises
    ------
    CheckpointError
        The file is absent, not JSON, not a card of hpctrain, or of a newer version.
    """
    path = Path(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no model here; give a run directory, or a folder with {CARD}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); the file is damaged") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a model of hpctrain (no 'format: {FORMAT}')")
    if card.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {card.get('version')!r}, this hpctrain reads {FORMAT_VERSION}; update hpctrain"
        )
    missing = [key for key in ("family", "section", "facts") if key not in card]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}; the file is damaged")
    return card


def find_weights(path: str | Path, checkpoint: str | None = None) -> tuple[Path, Path]:
    """Find weights and card of a run, a model folder, a checkpoint or a weights file.

    Parameters
    ----------
    path : str or Path
        A run directory, a folder with ``model.safetensors``, or that file.
    checkpoint : str, optional
        A checkpoint of the run, such as ``step-00001200`` or ``1200``, instead of its finished model.

    Returns
    -------
    weights, card : Path
        Paths of both. For a run without a finished model, the weights are those of its newest checkpoint.

    Raises
    ------
    CheckpointError
        There is no such model or checkpoint.
    """
    path = Path(path)
    if path.is_file():
        return path, _card_beside(path.parent)
    run = RunDir(path)
    if checkpoint is not None:
        name = f"step-{int(checkpoint):08d}" if checkpoint.isdigit() else checkpoint
        weights = run.checkpoints / name / WEIGHTS
        if not weights.is_file():
            have = ", ".join(sorted(folder.name for folder in run.checkpoints.glob("step-*"))) or "none"
            raise CheckpointError(f"{run.path}: no checkpoint {name!r}; there: {have}")
        return weights, run.model / CARD
    for folder in (run.path, run.model):
        if (folder / WEIGHTS).is_file():
            return folder / WEIGHTS, _card_beside(folder)
    newest = sorted(folder for folder in run.checkpoints.glob("step-*") if (folder / WEIGHTS).is_file())
    if newest:
        return newest[-1] / WEIGHTS, run.model / CARD
    raise CheckpointError(f"{path}: neither a finished model ({WEIGHTS}) nor a checkpoint; is it a run directory?")


def _card_beside(folder: Path) -> Path:
    """Return the card of the weights in `folder`: in the same folder, or for a checkpoint in the run's model folder."""
    if not (folder / CARD).is_file() and folder.parent.name == "checkpoints":
        return folder.parent.parent / "model" / CARD
    return folder / CARD


def load_model(
    path: str | Path, device: str | torch.device = "cpu", checkpoint: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a model that is ready for use.

    Parameters
    ----------
    path : str or Path
        A run directory, a model or checkpoint folder, or a ``model.safetensors``.
    device : str or torch.device
        Device for the model.
    checkpoint : str, optional
        A checkpoint of the run instead of its finished model.

    Returns
    -------
    model : torch.nn.Module
        The network in evaluation mode.
    card : dict
        The contents of ``model.json``, and the path of the weights as ``weights``.

    Raises
    ------
    CheckpointError
        There is no model, it is damaged or of another format version, or the shapes of the weights contradict the card.
    """
    weights, card_path = find_weights(path, checkpoint)
    card = read_card(card_path)
    try:
        section = ModelSection.model_validate_json(json.dumps(card["section"]))
        model = build_model(section, SpectraFacts.from_json(card["facts"]))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{card_path}: section or facts cannot be read ({error})") from error
    _load_into(model, _read_model(weights), weights)
    return model.to(device).eval(), {**card, "weights": str(weights)}


def load_weights(model: nn.Module, path: str | Path) -> Path:
    """Start a model from the weights of another run (``train.init_from``).

    Parameters
    ----------
    model : torch.nn.Module
        Network to change in place; its shapes must be those of the weights.
    path : str or Path
        A run directory, a model or checkpoint folder, or a ``model.safetensors``.

    Returns
    -------
    Path
        The path of the weights.

    Raises
    ------
    CheckpointError
        The weights are absent or damaged, or have other names or shapes; the message lists all differences.
    """
    weights, _ = find_weights(path)
    _load_into(model, _read_model(weights), weights)
    return weights


def with_grid_of(section: ModelSection, path: str | Path) -> ModelSection:
    """Return a model section with the rest-frame grid of a trained network, so that its weights fit other data.

    A section without a grid gets one from the data, so another survey or other redshifts would get another number of
    pixels at other wavelengths.

    Parameters
    ----------
    section : ModelSection
        The section; if it sets a grid, the function returns it unchanged.
    path : str or Path
        A run directory, a bundle, a model or checkpoint folder, or a ``model.safetensors``. If the card is absent, the
        function returns the section unchanged, too.

    Raises
    ------
    CheckpointError
        There is no such model, or its card is damaged.
    """
    _, card_path = find_weights(path)
    if section.rest_wavelength_aa is not None or section.rest_pixels is not None or not card_path.is_file():
        return section
    card = read_card(card_path)
    try:
        there = ModelSection.model_validate_json(json.dumps(card["section"]))
        facts = SpectraFacts.from_json(card["facts"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{card_path}: section or facts cannot be read ({error})") from error
    range_aa, num_pixels = RestGrid.extent(facts, there.rest_wavelength_aa, there.rest_pixels)
    return section.model_copy(update={"rest_wavelength_aa": range_aa, "rest_pixels": num_pixels})


def _read_model(path: Path) -> dict[str, Tensor]:
    """Read weights; return the moving averages of a checkpoint that has them."""
    weights = _read_weights(path)
    averaged = path.with_name(AVERAGED)
    return {**weights, **_read_weights(averaged)} if averaged.is_file() else weights


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error}); the file is damaged") from error


def _load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    problems = [
        f"{name}: missing from the file, the model has {tuple(own[name].shape)}" for name in own if name not in weights
    ]
    problems += [
        f"{name}: {tuple(tensor.shape)} in the file, not in the model"
        for name, tensor in weights.items()
        if name not in own
    ]
    problems += [
        f"{name}: {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise CheckpointError(
            f"{path}: {len(problems)} weights do not fit the model; use the model section and the wavelength grid "
            f"of its training (set model.rest_wavelength_aa and model.rest_pixels to fix the rest grid)\n{lines}"
        )
    model.load_state_dict(dict(weights))
