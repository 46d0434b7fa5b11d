"""Predicted columns with the names of the classes, and the calibration of a finished model. N samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.families.labels.class_head import ClassHead
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.labels.network import LabelNetwork

MOST_TO_CALIBRATE = 20_000
"""Largest number of held-out samples for the calibration, whose outputs are kept in memory."""


@torch.no_grad()
def predicted_columns(model: LabelNetwork, batch: Any) -> dict[str, np.ndarray]:
    """Return the columns that a model predicts, and where the batch has labels, the comparison with them.

    Parameters
    ----------
    model : LabelNetwork
        In evaluation mode.
    batch : Batch
        Prepared.

    Returns
    -------
    dict of ndarray, shape (N, ...)
        Classes are texts (bytes of a fixed length), empty where there is none.
    """
    found = dict(model.predict(batch))
    if batch.labels:
        found |= model.judged(batch)
    return named_classes({name: value.cpu().numpy() for name, value in found.items()}, model.heads)


def calibration_entries(model: LabelNetwork) -> dict[str, Any]:
    """Return what the card of a model says of the calibration of each label, by its title.

    ``method`` as in the profile; ``factor``: the temperature of probabilities, or by what errors are multiplied; for
    ``isotonic`` also the table of the map as ``monotone``.
    """
    found = {}
    for head in model.heads:
        entry: dict[str, Any] = {"method": head.label.calibration, "factor": float(head.calibration)}
        if head.monotone is not None:
            entry["monotone"] = head.monotone.tolist()
        found[head.title] = entry
    return found


@torch.no_grad()
def penultimate(model: LabelNetwork, batch: Any) -> np.ndarray:
    """Return what the last layers read of each sample of a prepared batch, (N, F); NaN where there is no input."""
    usable = model.usable(batch)
    return torch.where(usable[:, None], model.features(batch).float(), torch.nan).cpu().numpy()


def named_classes(columns: dict[str, np.ndarray], heads: Iterable[Any]) -> dict[str, np.ndarray]:
    """Return columns in which the numbers of classes are replaced by their names."""
    for head in heads:
        if isinstance(head, ClassHead):
            columns = _named(columns, head)
    return columns


def _named(columns: dict[str, np.ndarray], head: ClassHead) -> dict[str, np.ndarray]:
    """Replace the numbers of the classes by their names."""
    names = np.array([*((head.label.classes or []) or map(str, range(head.num_classes))), ""])
    names = np.char.encode(names, "utf-8")
    renamed = {}
    for name, values in columns.items():
        for code, text in (("TRUE_CODE", "TRUE"), ("CODE", "PRED")):
            if name == f"{head.title}_{code}":
                name, values = f"{head.title}_{text}", names[values]
                break
        renamed[name] = values
    return renamed


@torch.no_grad()
def calibrate(model: LabelNetwork, held_out: HeldOut) -> None:
    """Fit the uncertainties of a model to held-out samples, in place.

    Parameters
    ----------
    model : LabelNetwork
        In evaluation mode.
    held_out : HeldOut
        Their batches carry labels.
    """
    outputs: dict[str, list[torch.Tensor]] = {}
    labels: dict[str, list[torch.Tensor]] = {}
    chosen = held_out.rows[:MOST_TO_CALIBRATE]
    for start in range(0, len(chosen), held_out.batch_size):
        rows = chosen[start : start + held_out.batch_size]
        padded = np.concatenate([rows, np.full(held_out.batch_size - len(rows), PADDING_ROW, dtype=np.int64)])
        batch = held_out.prepare(held_out.samples.read(padded).to(held_out.device))
        keep = model.usable(batch)
        for head, values in model.outputs(batch):
            outputs.setdefault(head.title, []).append(values[keep])
        for name, column in batch.labels.items():
            labels.setdefault(name, []).append(column[keep])
        held_out.tick(start + len(rows))
    if labels:
        model.calibrate(
            {name: torch.cat(parts) for name, parts in outputs.items()},
            {name: torch.cat(parts) for name, parts in labels.items()},
        )
