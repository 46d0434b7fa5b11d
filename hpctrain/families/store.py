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
from hpctrain.families.labels.conformal import FILE as CONFORMAL
from hpctrain.families.labels.conformal import read_conformal
from hpctrain.files import NewFile, clear_leftovers
from hpctrain.plugins import PluginError
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.model import ModelSection
from hpctrain.rundir import RunDir, file_digest, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from hpctrain.samples.protocols import Facts

FORMAT = "hpctrain-model"
FORMAT_VERSION = 1
"""Version of the format; it increases when an older reader would misunderstand the file."""

WEIGHTS = "model.safetensors"
CARD = "model.json"
AVERAGED = "ema.safetensors"
"""File of the moving averages of the parameters in a checkpoint; a finished model contains the averages as weights."""


def card_entries(profile: Profile) -> dict[str, Any]:
    """Return the entries of a card that say where a model comes from, and how to prepare samples for it."""
    return {
        "name": profile.name,
        "kind": find_family(profile.model.family).kind,
        **profile.data.card_entries,
        "split": profile.data.split.model_dump(mode="json"),
        "seed": profile.train.seed,
    }


def save_model(folder: str | Path, model: Any, section: ModelSection, facts: Facts, extra: Mapping[str, Any]) -> None:
    """Write weights and card; write each file as a whole or not at all.

    Parameters
    ----------
    folder : str or Path
        Folder of the model, created if it does not exist; the new model replaces an older one.
    model : torch.nn.Module or RoundsModel
        The model, on any device.
    section, facts
        The section and the facts from which the model was built.
    extra : mapping
        More entries of the card (the ``normalise`` section, step, metrics, provenance); plain JSON values.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model).items()}
    clear_leftovers(folder / WEIGHTS)
    (folder / CONFORMAL).unlink(missing_ok=True)  # thresholds of the weights that are replaced
    with NewFile(folder / WEIGHTS, replace_folders=True) as new:
        # Write one entry only: the library writes several in random order, and equal models must be equal files.
        new.stream.write(save(weights, metadata={"format": f"{FORMAT} {FORMAT_VERSION}"}))
        os.fchmod(new.stream.fileno(), folder.stat().st_mode & 0o666)  # permissions follow those of the folder
    write_card(folder, section, facts, extra)


def _tensors(model: Any) -> dict[str, Tensor]:
    if isinstance(model, nn.Module):
        return model.state_dict()
    return {name: torch.from_numpy(array) for name, array in model.state().items()}


def write_card(folder: str | Path, section: ModelSection, facts: Facts, extra: Mapping[str, Any]) -> None:
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
        The contents of ``model.json``, the path of the weights as ``weights``, and where there are thresholds of
        conformal sets, these as ``conformal``.

    Raises
    ------
    CheckpointError
        There is no model, it is damaged or of another format version, the shapes of the weights contradict the card, or
        thresholds of conformal sets belong to other weights.
    """
    weights, card_path = find_weights(path, checkpoint)
    card = read_card(card_path)
    conformal = read_conformal(weights.parent, lambda: file_digest(weights))
    section, facts = read_blueprint(card, card_path)
    model = find_family(card["family"]).network(section, facts)
    _load_into(model, _read_model(weights), weights)
    if isinstance(model, nn.Module):
        model = model.to(device).eval()
    return model, {**card, "weights": str(weights), **({} if conformal is None else {"conformal": conformal})}


def read_blueprint(card: Mapping[str, Any], path: Path) -> tuple[ModelSection, Facts]:
    """Return the section and the facts of a card, from which its model can be built.

    Parameters
    ----------
    card : mapping
    path : Path
        Path of the card, for messages.

    Raises
    ------
    CheckpointError
        The card is damaged, or there is no such family here.
    """
    try:
        family = find_family(card["family"])
        section = family.section.model_validate_json(json.dumps(card["section"]))
        return section, find_kind(family.kind).read_facts(card["facts"])
    except PluginError as error:
        raise CheckpointError(f"{path}: family: {error}") from error
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: section or facts cannot be read ({error})") from error


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


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a run, a model or checkpoint folder, or a ``model.safetensors``, by name.

    Raises
    ------
    CheckpointError
        There is no such model, or it is damaged.
    """
    return _read_model(find_weights(path)[0])


def pinned_by(section: ModelSection, path: str | Path) -> dict[str, Any]:
    """Return values for the pinned keys of a section with which the weights of a trained model fit other data.

    A section that sets none of these keys gets their values from the data, so another survey would give another shape.

    Parameters
    ----------
    section : ModelSection
        The section. If it sets a pinned key itself, the function returns nothing.
    path : str or Path
        A run directory, a bundle, a model or checkpoint folder, or a ``model.safetensors``. If the card is absent, the
        function returns nothing, too.

    Raises
    ------
    CheckpointError
        There is no such model, or its card is damaged.
    """
    _, card_path = find_weights(path)
    if any(getattr(section, key) is not None for key in section.pinned) or not card_path.is_file():
        return {}
    card = read_card(card_path)
    there, facts = read_blueprint(card, card_path)
    return find_family(card["family"]).pin(there, facts)


def section_of(path: str | Path) -> ModelSection | None:
    """Return the section of the model that weights belong to; None where there is no card beside them.

    Raises
    ------
    CheckpointError
        There is no such model, or its card is damaged.
    """
    _, card_path = find_weights(path)
    if not card_path.is_file():
        return None
    return read_blueprint(read_card(card_path), card_path)[0]


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


def _load_into(model: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    if not isinstance(model, nn.Module):
        _load_state(model, weights, path)
        return
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


def _load_state(model: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load the arrays of a model that learns in rounds; only the model itself knows which ones it needs."""
    try:
        model.load({name: tensor.numpy() for name, tensor in weights.items()})
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path}: the arrays do not fit the model ({error!r})") from error
