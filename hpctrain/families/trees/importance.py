"""How much worse held-out predictions become when one input is shuffled. N objects, F inputs."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.drawing.scale import significant
from hpctrain.families.shown import Panel
from hpctrain.families.trees.shapley import FILE as SHAP_FILE
from hpctrain.families.trees.shapley import shapley_table
from hpctrain.kinds.catalogue.facts import INPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.result_files import Arrays

FILE = "importance.npz"
NUM_SHUFFLES = 3
MOST_ROWS = 1000
"""Largest number of held-out objects that are shuffled."""

MOST_SHOWN = 30


def permutation_importance(model: Any, held_out: HeldOut) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss of held-out objects, and its increase when an input is shuffled among them.

    Parameters
    ----------
    model : Trees
    held_out : HeldOut

    Returns
    -------
    loss : float
    increase, spread : ndarray, shape (F,), float64
        Mean and standard deviation over three shuffles.

    References
    ----------
    .. [1] Breiman 2001, Random forests, Machine Learning 45, 5, section 10.
    """
    import torch

    batch = held_out.prepare(held_out.samples.read(held_out.rows[:MOST_ROWS]))
    inputs = batch[INPUTS]

    def loss(values: torch.Tensor) -> float:
        return model.metrics(model.score(batch.with_tensors({INPUTS: values})))["loss"]

    before = loss(inputs)
    increase = np.zeros((inputs.shape[1], NUM_SHUFFLES))
    for number in range(inputs.shape[1]):
        for shuffle in range(NUM_SHUFFLES):
            order = np.random.default_rng([number, shuffle]).permutation(len(inputs))
            changed = inputs.clone()
            changed[:, number] = inputs[order, number]
            increase[number, shuffle] = loss(changed) - before
        held_out.tick(len(held_out.rows))
    return before, increase.mean(axis=1), increase.std(axis=1)


def write_importance(model: Any, names: tuple[str, ...], held_out: HeldOut, folder: Path) -> None:
    """Write ``importance.npz``: names of the inputs, and the increase of the loss."""
    from hpctrain.files import NewFile

    loss, increase, spread = permutation_importance(model, held_out)
    with NewFile(folder / FILE, durable=False, replace_folders=True) as new:
        np.savez(new.stream, names=np.array(names, dtype=str), loss=loss, increase=increase, spread=spread)


def importance_table(results: Mapping[str, Arrays]) -> str:
    """Return the inputs as an HTML table, the most important one first, each with a bar."""
    found = results[FILE]
    names, increase, spread = found["names"], found["increase"], found["spread"]
    order = np.argsort(-increase, kind="stable")[:MOST_SHOWN]
    largest = max(float(increase.max(initial=0.0)), 1e-12)
    rows = "".join(
        f"<tr><td>{escape(str(names[at]))}</td><td>{significant(float(increase[at]))} ± "
        f"{significant(float(spread[at]))}</td>"
        f'<td><svg width="160" height="10" role="img" aria-label="{significant(float(increase[at]))}">'
        f'<rect width="{160 * share:.1f}" height="10" fill="currentColor"/></svg></td></tr>'
        for at, share in zip(order.tolist(), (increase[order].clip(min=0) / largest).tolist(), strict=True)
    )
    more = f"; the {len(order)} most important of {len(names)}" if len(names) > len(order) else ""
    caption = (
        f"<b>Increase of the loss</b> of held-out objects when one input is shuffled among them, mean and scatter of "
        f"{NUM_SHUFFLES} shuffles{more}. Inputs that say the same share their "
        "importance; none of it says what causes what."
    )
    head = "<tr><th>input</th><th>increase</th><th></th></tr>"
    return f"<figure><figcaption>{caption}</figcaption><table>{head}{rows}</table></figure>"


IMPORTANCE = Panel(
    "importance",
    "What the model looks at",
    (FILE,),
    lambda results: importance_table(results) + shapley_table(results),
    wants=(SHAP_FILE,),
)
