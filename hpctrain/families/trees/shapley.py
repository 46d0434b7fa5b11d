"""Shapley values of the inputs of trees: how far each input moves a prediction. N objects, F inputs, L labels."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.drawing.scale import significant
from hpctrain.kinds.catalogue.facts import INPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.result_files import Arrays
    from hpctrain.families.trees.grove import Tree

FILE = "shap.npz"
MOST_EXPLAINED = 200
"""Largest number of held-out objects whose predictions are explained."""

MOST_BACKGROUND = 50
"""Largest number of other held-out objects whose values take the place of an input that is left out."""

MOST_SHOWN = 30


def shapley_values(
    trees: Sequence[tuple[Tree, np.ndarray]], inputs: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Shapley values of a sum of trees, with the inputs that are left out taken from other objects.

    Parameters
    ----------
    trees : sequence of (Tree, ndarray of shape (P, K))
        Trees with the values of their leaves.
    inputs : ndarray, shape (N, F), float32
    background : ndarray, shape (B, F), float32

    Returns
    -------
    values : ndarray, shape (N, F, K)
        Their sum over the inputs is the prediction minus `expected`.
    expected : ndarray, shape (K,)
        Mean prediction of the background.

    References
    ----------
    .. [1] Lundberg et al. 2020, Nature Machine Intelligence 2, 56: the values of trees, "interventional".
    """
    from shap import TreeExplainer

    model = {"trees": [_nodes(tree, values) for tree, values in trees], "input_dtype": np.float32}
    explainer = TreeExplainer(model, data=background, feature_perturbation="interventional")
    found = np.asarray(explainer.shap_values(inputs, check_additivity=False))
    return found.reshape(*inputs.shape, -1), np.atleast_1d(explainer.expected_value)


def _nodes(tree: Tree, values: np.ndarray) -> dict[str, np.ndarray]:
    from hpctrain.families.trees.grove import LEAF  # scikit-learn: not for a report

    is_leaf = tree.feature == LEAF
    of_nodes = np.where(is_leaf[:, None], values[np.where(is_leaf, tree.left, 0)], 0.0)
    left, right = (np.where(is_leaf, -1, each).astype(np.int32) for each in (tree.left, tree.right))
    return {
        "children_left": left,
        "children_right": right,
        "children_default": np.where(tree.missing_left == 1, left, right),
        "features": np.where(is_leaf, -2, tree.feature).astype(np.int32),
        "thresholds": tree.threshold,
        "values": of_nodes,
        "node_sample_weight": np.ones(len(is_leaf)),  # counted anew for the background
    }


def write_shapley(model: Any, names: tuple[str, ...], held_out: HeldOut, folder: Path) -> None:
    """Write ``shap.npz``: for each label and input the mean absolute Shapley value; nothing without shap."""
    from hpctrain.files import NewFile

    if find_spec("shap") is None:
        return
    rows = held_out.rows[: MOST_EXPLAINED + MOST_BACKGROUND]
    inputs = held_out.prepare(held_out.samples.read(rows))[INPUTS].cpu().numpy()
    if len(inputs) < 2:
        return
    num = max(1, min(MOST_BACKGROUND, len(inputs) // 2))
    means, units = [], []
    for learner in model.learners:
        trees, unit = learner.explained()
        values, _ = shapley_values(trees, inputs[num:], inputs[:num])
        means.append(np.abs(values).mean(axis=(0, 2)))
        units.append(unit)
        held_out.tick(len(held_out.rows))
    titles = [head.title for head in model.heads]
    with NewFile(folder / FILE, durable=False, replace_folders=True) as new:
        np.savez(
            new.stream,
            names=np.array(names, dtype=str),
            labels=np.array(titles, dtype=str),
            units=np.array(units, dtype=str),
            mean=np.stack(means),
            num_objects=len(inputs) - num,
            num_background=num,
        )


def shapley_table(results: Mapping[str, Arrays]) -> str:
    """Return the mean absolute Shapley values as an HTML table, a column for each label; a line if there are none."""
    if FILE not in results:
        return (
            "<p>Shapley values (SHAP) of the inputs are computed at the end of a run if the package shap is installed: "
            "<code>pip install 'hpctrain[shap]'</code>.</p>"
        )
    found = results[FILE]
    mean = found["mean"]
    share = mean / np.maximum(mean.max(axis=1, keepdims=True), 1e-300)
    order = np.argsort(-share.sum(axis=0), kind="stable")[:MOST_SHOWN]
    pairs = zip(found["labels"].tolist(), found["units"].tolist(), strict=True)
    titles = (f"<th>{escape(f'{title} [{unit}]' if unit else title)}</th>" for title, unit in pairs)
    rows = "".join(
        f"<tr><td>{escape(str(found['names'][at]))}</td>"
        + "".join(f"<td>{significant(float(value))}</td>" for value in mean[:, at])
        + "</tr>"
        for at in order.tolist()
    )
    more = f"; the {len(order)} largest of {mean.shape[1]}" if mean.shape[1] > len(order) else ""
    objects, others = int(found["num_objects"]), int(found["num_background"])
    caption = (
        f"<b>Mean absolute Shapley value</b> (SHAP) of {objects:,} held-out objects: how far the value of an input "
        f"moves the prediction, compared with that of {others} other objects{more}."
    )
    head = f"<tr><th>input</th>{''.join(titles)}</tr>"
    return f"<figure><figcaption>{caption}</figcaption><table>{head}{rows}</table></figure>"
