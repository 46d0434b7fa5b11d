"""Judge ``model.encoder`` and ``model.weights``. No torch here."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import CheckpointError
from hpctrain.families.image_cnn.encoders.names import fitting, misfits, renamed
from hpctrain.families.image_cnn.encoders.plans import PLANS, RESIDUAL, STRIDE
from hpctrain.families.image_cnn.encoders.shapes import shapes_in
from hpctrain.profile.near import nearest

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge

ENCODER, WEIGHTS = "model.encoder", "model.weights"

_RESIDUAL_ONLY = ("channels", "blocks", "kernel", "first_stride")

_CARD = "model.json"


def is_own(path: Path) -> bool:
    """Return whether weights are those of a run, a checkpoint or a model of hpctrain, rather than a file of timm."""
    return path.is_dir() or _card_of(path) is not None


def _card_of(path: Path) -> Path | None:
    """Return the card of a run, a model, a checkpoint or their weights; None where there is none."""
    folder = path if path.is_dir() else path.parent
    places = [folder, folder / "model"]
    if folder.parent.name == "checkpoints":
        places.append(folder.parent.parent / "model")
    return next((place / _CARD for place in places if (place / _CARD).is_file()), None)


def check_encoder(judge: Judge) -> None:
    """Judge the encoder against the other keys, and its weights."""
    model, train = judge.profile.model, judge.profile.train
    plan = PLANS.get(model.encoder)
    if plan is not None:
        for key in _RESIDUAL_ONLY:
            if getattr(model, key) != type(model).model_fields[key].default:  # a run's own profile has all keys
                message = f"is for encoder {RESIDUAL}; {model.encoder} has its own sizes"
                judge.problem(message, f"model.{key}", ENCODER)
        if plan.has_statistics and model.weights is None and train.init_from is None:
            gn = ", ".join(name for name, each in PLANS.items() if not each.has_statistics)
            message = (
                f"{model.encoder} has batch normalisation with fixed statistics, which its weights bring; set "
                f"model.weights to a file of them, or use an encoder that can begin without: {RESIDUAL}, {gn}"
            )
            judge.problem(message, ENCODER, WEIGHTS, "train.init_from")
    if model.weights is None or _has_begun(judge):
        return
    if train.init_from is not None:
        judge.problem("is not read where train.init_from is set; remove one of them", WEIGHTS, "train.init_from")
        return
    path = Path(model.weights)
    if not path.exists():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, names)
        hint = f"did you mean '{path.parent / near}'?" if near else "give a file of weights, or a run directory"
        judge.problem(f"'{path}' does not exist; {hint}", WEIGHTS)
    elif is_own(path):
        _check_own(judge, path)
    elif plan is None:
        _check_named(judge, path)
    else:
        _check_file(judge, path)


def _has_begun(judge: Judge) -> bool:
    """Return whether the profile is that of a run with a checkpoint, which does not read the weights again."""
    return any(Path(judge.document.source).parent.glob("checkpoints/step-*"))


def check_size(judge: Judge, side: int, where: str) -> None:
    """Judge the side of the images that an encoder reads [pixel]."""
    if side < STRIDE:
        message = f"makes one pixel of {STRIDE}, but an image has {side}; use larger images, or encoder {RESIDUAL}"
        judge.problem(f"{judge.profile.model.encoder} {message}", ENCODER, where)


def _check_own(judge: Judge, path: Path) -> None:
    """Judge the weights of a run: its network must be that of the profile, its labels need not."""
    model = judge.profile.model
    card = _card_of(path)
    if card is None:
        judge.problem(f"'{path}' has no {_CARD}, so it is neither a run directory nor a model of hpctrain", WEIGHTS)
        return
    there: dict = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        there = dict(json.loads(card.read_text(encoding="utf-8"))["section"])
    if there.get("family") != model.family:
        judge.problem(f"'{path}' is a model of the family {there.get('family')}, not {model.family}", WEIGHTS)
        return
    for key in ("encoder", *(() if model.encoder in PLANS else _RESIDUAL_ONLY), "hidden"):
        default = type(model).model_fields[key].get_default()
        value = there.get(key, default)
        if value != getattr(model, key):
            message = f"'{path}' has model.{key}: {value}, but this profile has {getattr(model, key)}; use the same"
            judge.problem(message, WEIGHTS, f"model.{key}")


def _check_named(judge: Judge, path: Path) -> None:
    """Say which encoder a file of weights needs, where the profile names none."""
    found = _shapes(judge, path)
    if found is not None:
        fit = fitting(found, PLANS)
        needed = " or ".join(fit) if fit else f"the one of these: {', '.join(PLANS)}"
        judge.problem(f"'{path}' has no weights of encoder {RESIDUAL}; set model.encoder to {needed}", WEIGHTS, ENCODER)


def _check_file(judge: Judge, path: Path) -> None:
    name, found = judge.profile.model.encoder, _shapes(judge, path)
    if found is None:
        return
    lines = misfits(renamed(found, PLANS[name]), PLANS[name])
    if lines:
        fit = fitting(found, PLANS)
        hint = f"; they are those of {' or '.join(fit)}" if fit else ""
        message = f"'{path}' has no weights of {name}{hint}:\n" + "\n".join(f"    {line}" for line in lines)
        judge.problem(message, WEIGHTS, ENCODER)


def _shapes(judge: Judge, path: Path) -> dict[str, tuple[int, ...]] | None:
    try:
        return shapes_in(path)
    except CheckpointError as error:
        judge.problem(str(error), WEIGHTS)
        return None
