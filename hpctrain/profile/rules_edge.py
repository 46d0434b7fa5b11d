"""Rules of ``edge``: values that are valid alone but do not fit together."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise

from hpctrain.profile.judge import Judge


def check_edge(judge: Judge) -> None:
    """Judge ``edge``."""
    edge = judge.profile.edge
    for name, edges in (("snr_edges", edge.snr_edges), ("redshift_edges", edge.redshift_edges)):
        if edges is not None and not all(low < high for low, high in pairwise(edges)):
            judge.problem(f"{edges} does not rise; write the inner edges of the bins in order", f"edge.{name}")
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if edge.export_at_end is not None and missing:
        message = f"needs {' and '.join(missing)}, which cannot be found here; pip install 'hpctrain[export]'"
        judge.problem(message, "edge.export_at_end")
    gates = edge.gates
    if gates.min_spectra > edge.max_held_out:
        message = f"{gates.min_spectra} is more than edge.max_held_out ({edge.max_held_out}): no bin would be judged"
        judge.problem(message, "edge.gates.min_spectra", "edge.max_held_out")
    rate, train = edge.finetune_learning_rate, judge.profile.train
    if rate is not None and rate > train.learning_rate:
        message = f"{rate:g} is above train.learning_rate ({train.learning_rate:g}): fine-tuning would undo training"
        judge.warn(message, "edge.finetune_learning_rate", "train.learning_rate")
