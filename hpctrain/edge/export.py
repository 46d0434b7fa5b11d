"""From a trained network to a bundle for a device: prune, convert, compare, time, and only then call it good."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.edge.bundle import GOOD, NETWORK, REJECTED, seal_bundle, write_reference
from hpctrain.edge.energy import measured_energy
from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.gates import FAILED, PASSED, Bin, Seen, Verdict, failures, judge, make_bins
from hpctrain.edge.latency import Latency, machine, measure_latency
from hpctrain.edge.networks import exported_network
from hpctrain.edge.onnx_file import OPSET, check_onnx, largest_differences, write_onnx
from hpctrain.edge.packages import need
from hpctrain.edge.placement import Layer, choose_layers
from hpctrain.edge.prune import TWO_OF_FOUR, PrunePlan, card_extra, prune
from hpctrain.edge.quantise import write_fp16, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import (
    Sample,
    choose_calibration,
    class_labels,
    open_sample,
    prepare_all,
    prepared_batches,
    signal_to_noise,
)
from hpctrain.edge.see import Network, TorchNetwork, fit_forest, see_in_pytorch, see_through_runtime, with_meaning
from hpctrain.edge.tensorrt import ENGINE, Engine, EngineError, build_engine, trtexec_command
from hpctrain.errors import CheckpointError, DataError
from hpctrain.launch.provenance import collect
from hpctrain.models.store import load_model, save_model
from hpctrain.profile.schema import ModelSection, Profile
from hpctrain.rundir import file_digest, fsync_directory

ONNX, TORCH, TENSORRT = "onnx", "torch", "tensorrt"
TARGETS = (ONNX, TORCH, TENSORRT)

FP32, FP16, INT8 = "fp32", "fp16", "int8"
TRIED = {"none": (FP32,), FP16: (FP16,), INT8: (INT8, FP16)}
"""What ``--quantise`` tries, in this order: INT8 that fails gives way to FP16."""


@dataclass(frozen=True)
class ExportRequest:
    """What is asked for.

    Parameters
    ----------
    source : Path
        Run directory or model folder.
    out : Path or None
        Folder of the bundle; none is ``export/<variant>`` in the source.
    target, quantise : str
        Of `TARGETS` and `TRIED`.
    plan : PrunePlan or None
    held_out : list of str or None
        Files to judge by instead of the run's own held-out spectra.
    replace : bool
        An older bundle of the same name may be replaced.
    """

    source: Path
    out: Path | None
    target: str
    quantise: str
    plan: PrunePlan | None = None
    held_out: list[str] | None = None
    replace: bool = False

    def variant(self, precision: str) -> str:
        """Return the name of what is made, such as ``onnx-int8-structured-50``."""
        pruned = "" if self.plan is None else f"-{self.plan.name}"
        return f"{self.target}-{precision}{pruned}"

    def folder(self, precision: str) -> Path:
        """Return where a good bundle of this precision goes."""
        return self.out if self.out is not None else self.source / "export" / self.variant(precision)

    @property
    def work(self) -> Path:
        """Where pruning keeps its rounds; the same for every target and precision."""
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
        Of the graph from PyTorch, by output.
    bytes : int
        Size of the graph, or of the weights.
    latencies : list of Latency
    engine : Engine or None
    layers : list of Layer
        Which of them are INT8, and why.
    reason : str
        Why it cannot be used; empty where it can.
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
        """What is wrong with it, in a line."""
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
    """What came of an export.

    Parameters
    ----------
    path : Path
        The bundle; its name ends in ``.rejected`` where a gate failed.
    chosen : Attempt
    others : list of Attempt
        Tried and not used.
    bytes_before : int
        Size of the weights of the trained network.
    num_held_out : int
    side : str
        What the held-out spectra are.
    command : str or None
        That builds the TensorRT engine, where it was not built here.
    pruned : dict or None
        What pruning did.
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


def export(profile: Profile, request: ExportRequest, say: Callable[[str], None]) -> Exported:
    """Make a bundle, or say why there is none.

    Parameters
    ----------
    profile : Profile
        Of the run, with the files to calibrate and to judge by.
    request : ExportRequest
    say : callable
        Told what is going on, a line at a time.

    Raises
    ------
    HpctrainError
        As drawn in ``errors.py``; a failed gate is no error here, see :attr:`Exported.is_good`.
    """
    if request.target != TORCH:
        need("onnx", "onnxruntime")  # before any training
    for precision in TRIED[request.quantise]:
        _refuse_to_replace(request, request.folder(precision))
    model, card = load_model(request.source)
    sample = open_sample(profile, request.held_out)
    for spectra in (sample.train, sample.held_out):
        if difference := model.facts.grid_difference(spectra):
            raise DataError(f"the spectra are not on the wavelength grid of the model: {difference}")
    calibration = choose_calibration(
        sample, exported_network(model, card).preparation, profile.edge.calibration_spectra
    )
    weights, pruned, folder = card["weights"], None, request.source
    if request.plan is not None:
        folder, pruned = prune(request.source, profile, request.plan, sample, calibration, request.work, say)
    work = _Export(profile, request, sample, calibration, say)
    try:
        work.look(model, card, *load_model(folder))
        attempts: list[Attempt] = []
        for precision in TRIED[request.quantise]:
            attempts.append(work.attempt(precision))
            if attempts[-1].is_good:
                break
            say(f"{precision}: {attempts[-1].fault}")
        judged = [attempt for attempt in attempts if attempt.verdicts] or attempts
        chosen = next((attempt for attempt in attempts if attempt.is_good), judged[0])
        others = [attempt for attempt in attempts if attempt is not chosen]
        path, command = work.write(chosen, others, weights, pruned)
    finally:
        work.close()
    number = int(work.bins[0].members.sum())
    return Exported(path, chosen, others, work.bytes_before, number, sample.side, command, pruned)


class _Export:
    """The parts of one export that belong together."""

    def __init__(
        self,
        profile: Profile,
        request: ExportRequest,
        sample: Sample,
        calibration: np.ndarray,
        say: Callable[[str], None],
    ) -> None:
        self._profile, self._request, self._sample, self._say = profile, request, sample, say
        self._calibration = calibration
        base = request.out.parent if request.out is not None else request.source / "export"
        try:
            base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{base}: cannot be made ({error.strerror})") from error
        self._scratch = base / f".{request.variant('all')}.tmp"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        self.bytes_before = 0

    def close(self) -> None:
        """Remove what is left of the work."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def look(self, trained: torch.nn.Module, trained_card: dict, model: torch.nn.Module, card: dict) -> None:
        """See what the networks before conversion make of the spectra, and put the held-out ones into bins."""
        sample, edge, seed = self._sample, self._profile.edge, int(card.get("seed", 0))
        self._model, self._card = model, card
        self._network = exported_network(model, card)
        self._labels = self._train_labels = None
        if edge.class_column is not None:
            self._labels = class_labels(sample.held_out, edge.class_column, sample.held_out_rows)
            self._train_labels = class_labels(sample.train, edge.class_column, sample.train_rows)
        self._say(f"looking at {len(sample.train_rows):,} training and {len(sample.held_out_rows):,} held-out spectra")
        self._trained, forest = self._see_in_pytorch(trained, trained_card, seed)
        self._converted, self._forest = self._trained, forest
        if self._request.plan is not None:
            self._converted, self._forest = self._see_in_pytorch(model, card, seed)
        snr, redshift = [], []
        for prepared in prepared_batches(sample.held_out, sample.held_out_rows, self._network.preparation):
            snr.append(signal_to_noise(prepared))
            redshift.append(prepared.feeds["redshift"])
        usable = np.isfinite(self._trained.chi2) & np.isfinite(self._trained.latents).all(axis=1)
        self.bins: list[Bin] = make_bins(np.concatenate(snr), np.concatenate(redshift), edge, usable)
        if usable.sum() < edge.gates.min_spectra:
            raise DataError(
                f"only {usable.sum()} held-out spectra ({sample.side}) can be encoded, and edge.gates.min_spectra is "
                f"{edge.gates.min_spectra}: nothing could judge the export; name more spectra with --held-out"
            )
        self.bytes_before = _bytes(trained)
        self._parity: dict[str, float] = {}
        self._float = self._scratch / "float32.onnx"
        if self._request.target != TORCH:
            write_onnx(self._network, self._float)
            self._parity = check_onnx(self._float, self._network)

    def attempt(self, precision: str) -> Attempt:
        """Convert to a precision, and put the result to all gates."""
        attempt = Attempt(precision)
        if self._request.target == TORCH:
            attempt.bytes = _bytes(self._model)
            network = TorchNetwork(self._network)
            self._judge(attempt, network, network)
            return attempt
        path = self._scratch / f"{precision}.onnx"
        attempt.layers = self._convert(precision, path)
        if precision == INT8 and not any(layer.is_int8 for layer in attempt.layers):
            attempt.reason = "every layer alone would use up what the gates allow"
            return attempt
        attempt.bytes = path.stat().st_size
        attempt.differences = self._parity if precision == FP32 else largest_differences(path, self._network)
        if self._request.target == TENSORRT:
            try:
                attempt.engine = self._build(path, precision)
            except EngineError as error:
                if precision == TRIED[self._request.quantise][-1]:
                    raise
                self._say(str(error))
                attempt.reason = f"TensorRT cannot build the engine: {str(error).splitlines()[-1].strip()}"
                return attempt
        self._judge(attempt, OnnxNetwork(path, ["CPUExecutionProvider"]), OnnxNetwork(path))
        return attempt

    def write(
        self, chosen: Attempt, others: list[Attempt], weights: str, pruned: dict[str, Any] | None
    ) -> tuple[Path, str | None]:
        """Write the bundle whole or not at all; return its folder, and the command that builds the engine."""
        request, sample = self._request, self._sample
        good = request.folder(chosen.precision)
        path = good if chosen.is_good else good.with_name(f"{good.name}.rejected")
        folder = self._scratch / "bundle"
        folder.mkdir()
        entries = {
            "target": request.target,
            "gates": [verdict.to_json() for verdict in chosen.verdicts],
            "held_out": {
                "side": sample.side,
                "num_spectra": int(self.bins[0].members.sum()),
                "data": sample.held_out.fingerprint(),
            },
            "latency": {**machine(), "measured": [latency.to_json() for latency in chosen.latencies]},
            "bytes": {"before": self.bytes_before, "after": chosen.bytes},
            "tried": [attempt.to_json() for attempt in others],
            "pruned": pruned,
            "calibration": {
                "num_spectra": len(self._calibration),
                "target_ids": [int(name) for name in sample.train.target_id[self._calibration]],
            },
            "provenance": self._provenance(weights),
        }
        extra = card_extra(self._card)
        section = ModelSection.model_validate(self._card["section"], strict=False)
        if request.target == TORCH:
            report = {name: value for name, value in entries.items() if name != "calibration"}
            status = GOOD if chosen.is_good else REJECTED
            save_model(folder, self._model, section, self._model.facts, {**extra, "export": report, "status": status})
            self._publish(folder, path)
            return path, None
        save_model(folder, self._model, section, self._model.facts, extra)
        shutil.copyfile(self._scratch / f"{chosen.precision}.onnx", folder / NETWORK)
        command = None
        if request.target == TENSORRT:
            if chosen.engine is not None:
                shutil.copyfile(self._scratch / f"{chosen.precision}.engine", folder / ENGINE)
                entries["tensorrt"] = chosen.engine.to_json()
            else:
                batch = self._profile.edge.latency_batch
                words = trtexec_command("trtexec", self._network.inputs, batch)
                command = shlex.join([*words, *self._engine_options()])
                entries["tensorrt"] = {"command": command}
        write_reference(folder, sample.train.wavelength_aa, self._forest)
        seal_bundle(
            folder,
            status=GOOD if chosen.is_good else REJECTED,
            num_pixels=sample.train.num_pixels,
            preparation=self._network.preparation,
            network={
                "precision": chosen.precision,
                "opset": OPSET,
                "inputs": [port.to_json() for port in self._network.inputs],
                "outputs": [port.to_json() for port in self._network.outputs],
                "differences": chosen.differences,
                **({"layers": [layer.to_json() for layer in chosen.layers]} if chosen.layers else {}),
            },
            card=self._card,
            **entries,
        )
        self._publish(folder, path)
        return path, command

    def _see_in_pytorch(self, model: torch.nn.Module, card: dict, seed: int) -> tuple[Seen, IsolationForest]:
        """What a network makes of the held-out spectra, and the forest of its training spectra."""
        sample = self._sample
        known, _ = see_in_pytorch(model, card, sample.train, sample.train_rows)
        forest = fit_forest(known, seed)
        reference = None if self._train_labels is None else (known, self._train_labels)
        found = see_in_pytorch(model, card, sample.held_out, sample.held_out_rows)
        return with_meaning(*found, forest, reference), forest

    def _judge(self, attempt: Attempt, exact: Network, fast: Network) -> None:
        """Put what was made to the gates: what it computes by the CPU, how fast by the best there is."""
        after = self._see_through_runtime(exact)
        gates = self._profile.edge.gates
        attempt.verdicts = judge(self._trained, self._converted, after, self.bins, gates, self._labels)
        self._time(attempt, fast)

    def _see_through_runtime(self, network: Network) -> Seen:
        """The same through the exported graph: the forest is the one that goes into the bundle."""
        sample, preparation = self._sample, self._network.preparation
        reference = None
        if self._train_labels is not None:
            known, _ = see_through_runtime(network, preparation, sample.train, sample.train_rows)
            reference = (known, self._train_labels)
        found = see_through_runtime(network, preparation, sample.held_out, sample.held_out_rows)
        return with_meaning(*found, self._forest, reference)

    def _convert(self, precision: str, path: Path) -> list[Layer]:
        """Write the graph; return what was decided about each layer, if anything was."""
        if precision == FP32:
            shutil.copyfile(self._float, path)
        elif precision == FP16:
            write_fp16(self._float, path)
        else:
            for_tensorrt = self._request.target == TENSORRT
            preparation = self._network.preparation
            spectra = prepare_all(self._sample.train, self._calibration, preparation)
            layers, calibration, named = choose_layers(
                self._float, spectra, preparation, self._profile.edge.gates, self._scratch, for_tensorrt=for_tensorrt
            )
            small = [layer.name for layer in layers if layer.is_int8]
            write_int8(named, path, small, calibration, for_tensorrt=for_tensorrt)
            write_fp16(path, path, skip=small)
            return layers
        return []

    def _build(self, path: Path, precision: str) -> Engine | None:
        engine, batch = self._scratch / f"{precision}.engine", self._profile.edge.latency_batch
        return build_engine(path, engine, self._network.inputs, batch, self._engine_options())

    def _engine_options(self) -> list[str]:
        plan = self._request.plan
        return ["--sparsity=enable"] if plan is not None and plan.method == TWO_OF_FOUR else []

    def _time(self, attempt: Attempt, network: Network) -> None:
        """Measure alone and in batches, and judge by the first."""
        sample, edge, preparation = self._sample, self._profile.edge, self._network.preparation
        rows = sample.held_out_rows[self.bins[0].members]
        with measured_energy() as energy_j:
            attempt.latencies = [
                measure_latency(network, preparation, sample.held_out, rows, batch, energy_j)
                for batch in dict.fromkeys((1, edge.latency_batch))
            ]
        if edge.latency_ms is None:
            return
        alone = attempt.latencies[0]
        found, how = alone.p95_ms, f"batch 1, p95, {network.provider}"
        if attempt.engine is not None and "p95" in attempt.engine.latency_ms:
            found = alone.p95_ms - alone.network_p95_ms + attempt.engine.latency_ms["p95"]
            how = "batch 1, p95, TensorRT"
        verdict = PASSED if found <= edge.latency_ms else FAILED
        attempt.verdicts.append(Verdict("latency_ms", how, alone.calls, None, None, found, edge.latency_ms, verdict))

    def _provenance(self, weights: str) -> dict[str, Any]:
        return {
            **collect(self._profile, Path.cwd()),
            "weights": weights,
            "weights_sha256": file_digest(Path(weights)),
            "export_packages": {name: _version(name) for name in ("onnx", "onnxruntime", "onnxscript", "tensorrt")},
        }

    def _publish(self, folder: Path, path: Path) -> None:
        """Put a finished folder in its place."""
        fsync_directory(folder)
        if path.exists():
            shutil.rmtree(path)
        folder.rename(path)
        fsync_directory(path.parent)


def _bytes(model: torch.nn.Module) -> int:
    """Size of the weights."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _refuse_to_replace(request: ExportRequest, path: Path) -> None:
    if path.exists() and not request.replace:
        raise CheckpointError(f"{path}: exists already; remove it, name another folder with --out, or say --replace")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
