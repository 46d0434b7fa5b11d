"""The state of a run: weights, moments, loss scale, the step, and the best evaluation so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from hpctrain.errors import CheckpointError, DataError
from hpctrain.families.store import CARD, read_card
from hpctrain.profile.resume import misfits, show

if TYPE_CHECKING:
    from hpctrain.train.run import Run


_NAMES_NOW = {"best_loss": "best_value"}
"""Names in checkpoints of older versions, and what they are called now."""


def capture(run: Run) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Return the live tensors of the state, by file and name, and everything else as JSON values."""
    state = {"progress": asdict(run.progress), "data": _data_facts(run)}
    if not run.learns_by_gradient:
        return {"model": {name: torch.from_numpy(array) for name, array in run.model.state().items()}}, state
    optimizer: dict[str, torch.Tensor] = dict(run.loss_scale.state())
    for name, parameter in run.model.named_parameters():
        for key, value in run.optimizer.state.get(parameter, {}).items():
            optimizer[f"{key}/{name}"] = value
    tensors = {"model": dict(run.model.state_dict()), "optimizer": optimizer}
    if run.averaged is not None:
        tensors["ema"] = run.averaged
    return tensors, state


def restore(run: Run, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]) -> None:
    """Load a captured state into a freshly built run.

    Raises
    ------
    DataError
        The training set differs from the one of the checkpoint.
    CheckpointError
        The tensors do not fit the network of the profile.
    """
    _refuse_other_data(run, state["data"])
    if run.learns_by_gradient:
        _restore_network(run, tensors)
    else:
        run.model.load({name: tensor.numpy() for name, tensor in tensors["model"].items()})
    for name, value in state["progress"].items():
        setattr(run.progress, _NAMES_NOW.get(name, name), value)
    limit = run.profile.train.early_stopping  # a user may have changed it, to train further
    run.progress.stopped_early &= limit is not None and run.progress.evaluations_without_progress >= limit.patience


def _restore_network(run: Run, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    try:
        run.model.load_state_dict(dict(tensors["model"]))
    except RuntimeError as error:
        raise CheckpointError(_misfit(run, tensors["model"])) from error
    for name, parameter in run.model.named_parameters():
        for key, value in run.optimizer.state.get(parameter, {}).items():
            if f"{key}/{name}" not in tensors["optimizer"]:
                raise CheckpointError(f"{run.directory.checkpoints}: holds no {key} of {name}")
            value.copy_(tensors["optimizer"][f"{key}/{name}"])
    run.loss_scale.load({key: value for key, value in tensors["optimizer"].items() if "/" not in key})
    if run.averaged is not None:
        if "ema" not in tensors:
            raise CheckpointError(f"{run.directory.checkpoints}: holds no moving average, but train.ema_decay is set")
        for name, value in run.averaged.items():
            value.copy_(tensors["ema"][name])


def _misfit(run: Run, weights: Mapping[str, torch.Tensor]) -> str:
    """Return one line with the keys of the profile that do not fit the checkpoint's network, and their old values."""
    before = run.profile.model_copy(update={"train": run.profile.train.model_copy(update={"ema_decay": None})})
    found = [
        change
        for change in misfits(before, before, read_card(run.directory.model / CARD))
        if change.key.startswith("model.")
    ]
    if found:
        keys = ", ".join(f"{change.key} is {show(change.new)}, was {show(change.old)}" for change in found)
        back = " ".join(f"{change.key}={show(change.old).replace(' ', '')}" for change in found)
        return (
            f"{run.directory.path}: the profile asks for another network than that of the checkpoint: {keys}; "
            f"resume it with --set {back}"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in run.model.state_dict().items()}
    saved = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    other = [name for name in {**shapes, **saved} if shapes.get(name) != saved.get(name)]
    return (
        f"{run.directory.path}: {len(other)} weights of the checkpoint have other shapes than the profile's network, "
        f"such as {', '.join(other[:1])}; start a new run"
    )


def _data_facts(run: Run) -> dict[str, int | str]:
    return {
        "num_train": len(run.data.train_rows),
        "num_validation": len(run.data.validation_rows),
        **run.kind.shape(run.data.samples),
        "global_batch": run.schedule.global_batch,
        "order": run.schedule.order_name,
    }


def _refuse_other_data(run: Run, then: Mapping[str, int | str]) -> None:
    now = _data_facts(run)
    changed = [f"{name} was {then[name]}, is {now[name]}" for name in then if then[name] != now[name]]
    if changed:
        raise DataError(
            f"{run.directory.path}: cannot resume exactly, because the data or the profile changed since its "
            f"checkpoint: {'; '.join(changed)}. Put the files back, or start a new run with train.init_from: "
            f"{run.directory.path}"
        )
