"""The request of an export and its results: path of the bundle, precisions to try, and the result of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.edge.gates import Verdict, failures
from hpctrain.edge.latency import Latency
from hpctrain.edge.placement import Layer
from hpctrain.edge.prune import PrunePlan
from hpctrain.edge.tensorrt import Engine

ONNX, TORCH, TENSORRT = "onnx", "torch", "tensorrt"
TARGETS = (ONNX, TORCH, TENSORRT)

FP32, FP16, INT8 = "fp32", "fp16", "int8"
TRIED = {"none": (FP32,), FP16: (FP16,), INT8: (INT8, FP16)}
"""Precisions that ``--quantise`` tries, in this order: FP16 follows if INT8 fails."""


@dataclass(frozen=True)
class ExportRequest:
    """The options of ``hpctrain export``.

    Parameters
    ----------
    source : Path
        Run directory or model folder.
    out : Path or None
        Folder of the bundle; None means ``export/<variant>`` in the source.
    target, quantise : str
        One of `TARGETS` and one of `TRIED`.
    plan : PrunePlan or None
    held_out : list of str or None
        Files of spectra to judge the export by, instead of the run's own held-out spectra.
    replace : bool
        Whether an older bundle of the same name may be replaced.
    """

    source: Path
    out: Path | None
    target: str
    quantise: str
    plan: PrunePlan | None = None
    held_out: list[str] | None = None
    replace: bool = False

    def variant(self, precision: str) -> str:
        """Return the name of the result, such as ``onnx-int8-structured-50``."""
        pruned = "" if self.plan is None else f"-{self.plan.name}"
        return f"{self.target}-{precision}{pruned}"

    def folder(self, precision: str) -> Path:
        """Return where a good bundle of this precision goes."""
        return self.out if self.out is not None else self.source / "export" / self.variant(precision)

    @property
    def work(self) -> Path:
        """Folder of the pruning rounds; the same for every target and precision."""
        if self.out is not None:
            return self.out.with_name(f"{self.out.name}.work")
        assert self.plan is not None
        return self.source / "export" / f"{self.plan.name}.work"


@dataclass
class Attempt:
    """One precision that was tried.

    Parameters
    ----------
    precision : str
    verdicts : list of Verdict
    differences : dict of float
        Difference between the graph and PyTorch, by output.
    bytes : int
        Size of the graph, or of the weights [byte].
    latencies : list of Latency
    engine : Engine or None
    layers : list of Layer
        Which large layers are INT8, and why.
    reason : str
        Why this precision cannot be used; empty if it can.
    """

    precision: str
    verdicts: list[Verdict] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    bytes: int = 0
    latencies: list[Latency] = field(default_factory=list)
    engine: Engine | None = None
    layers: list[Layer] = field(default_factory=list)
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return not self.reason and not failures(self.verdicts)

    @property
    def fault(self) -> str:
        """Why this precision was rejected, in one line."""
        broken = [verdict.name for verdict in failures(self.verdicts)]
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        return self.reason or f"gates failed: {'; '.join(broken[:3])}{more}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``."""
        return {
            "precision": self.precision,
            "good": self.is_good,
            **({} if self.is_good else {"fault": self.fault}),
            "bytes": self.bytes,
            "differences": self.differences,
            **({"layers": [layer.to_json() for layer in self.layers]} if self.layers else {}),
            "gates": [verdict.to_json() for verdict in self.verdicts],
        }


@dataclass
class Exported:
    """The result of an export.

    Parameters
    ----------
    path : Path
        The bundle; its name ends in ``.rejected`` if a gate failed.
    chosen : Attempt
    others : list of Attempt
        Precisions that were tried and not used.
    bytes_before : int
        Size of the weights of the trained network [byte].
    num_held_out : int
    side : str
        Where the held-out spectra come from.
    command : str or None
        Command that builds the TensorRT engine, if it was not built here.
    pruned : dict or None
        Widths or zeros before and after pruning.
    """

    path: Path
    chosen: Attempt
    others: list[Attempt]
    bytes_before: int
    num_held_out: int
    side: str
    command: str | None
    pruned: dict[str, Any] | None

    @property
    def is_good(self) -> bool:
        return self.chosen.is_good
