"""From a trained network to a bundle for a device: prune, convert, compare, time, and judge by the gates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.edge.energy import measured_energy
from hpctrain.edge.gates import FAILED, PASSED, Bin, Seen, Verdict, judge, make_bins
from hpctrain.edge.latency import measure_latency
from hpctrain.edge.networks import exported_network
from hpctrain.edge.onnx_file import check_onnx, largest_differences, write_onnx
from hpctrain.edge.packages import need
from hpctrain.edge.placement import Layer, choose_layers
from hpctrain.edge.progress import Progress
from hpctrain.edge.prune import prune
from hpctrain.edge.publish import Parts, engine_options, write_bundle
from hpctrain.edge.quantise import write_fp16, write_int8
from hpctrain.edge.request import FP16, FP32, INT8, TENSORRT, TORCH, TRIED, Attempt, Exported, ExportRequest
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import (
    Sample,
    choose_calibration,
    class_labels,
    open_sample,
    prepare_all,
)
from hpctrain.edge.see import (
    Network,
    Ordinary,
    TorchNetwork,
    fit_ordinary,
    observed,
    see_in_pytorch,
    see_through_runtime,
    with_meaning,
)
from hpctrain.edge.tensorrt import Engine, EngineError, build_engine
from hpctrain.errors import CheckpointError, DataError
from hpctrain.families.store import load_model
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, note_test_look


def export(profile: Profile, request: ExportRequest, say: Progress) -> Exported:
    """Make a bundle.

    Parameters
    ----------
    profile : Profile
        Profile of the run; it names the files to calibrate with and to judge by.
    request : ExportRequest
    say : Progress

    Raises
    ------
    HpctrainError
        The bundle cannot be made. A failed gate is no error here, see :attr:`Exported.is_good`.
    """
    if request.target != TORCH:
        need("onnx", "onnxruntime")  # before any training
    for precision in TRIED[request.quantise]:
        _refuse_to_replace(request, request.folder(precision))
    model, card = load_model(request.source)
    sample = open_sample(profile, request.held_out)
    if sample.side == "test":
        note_test_look(RunDir(request.source), "hpctrain export", len(sample.held_out_rows))
    for spectra in (sample.train, sample.held_out):
        if difference := model.facts.difference(spectra):
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
        parts = work.parts(weights, pruned)
        path, command = write_bundle(parts, chosen, others)
    finally:
        work.close()
    return Exported(path, chosen, others, parts.bytes_before, parts.num_held_out, sample.side, command, pruned)


class _Export:
    """The state of one export: the networks, their results, and a scratch folder."""

    def __init__(
        self,
        profile: Profile,
        request: ExportRequest,
        sample: Sample,
        calibration: np.ndarray,
        say: Progress,
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
        """Remove the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def look(self, trained: torch.nn.Module, trained_card: dict, model: torch.nn.Module, card: dict) -> None:
        """Compute the spectra with the networks before conversion, and divide the held-out ones into bins."""
        sample, edge, seed = self._sample, self._profile.edge, int(card.get("seed", 0))
        self._model, self._card = model, card
        self._network = exported_network(model, card)
        self._labels = self._train_labels = None
        if edge.class_column is not None:
            self._labels = class_labels(sample.held_out, edge.class_column, sample.held_out_rows)
            self._train_labels = class_labels(sample.train, edge.class_column, sample.train_rows)
        numbers = f"{len(sample.train_rows):,} training and {len(sample.held_out_rows):,} held-out spectra"
        self._say(f"encode {numbers} before conversion")
        preparation = self._network.preparation
        self._at = observed(sample.held_out, sample.held_out_rows, preparation)
        self._at_train = observed(sample.train, sample.train_rows, preparation)
        self._trained, ordinary = self._see_in_pytorch(trained, trained_card, seed)
        self._converted, self._ordinary = self._trained, ordinary
        if self._request.plan is not None:
            self._converted, self._ordinary = self._see_in_pytorch(model, card, seed)
        usable = np.isfinite(self._trained.chi2) & np.isfinite(self._trained.latents).all(axis=1)
        self.bins: list[Bin] = make_bins(*self._at, edge, usable)
        if usable.sum() < edge.gates.min_spectra:
            raise DataError(
                f"only {usable.sum()} held-out spectra ({sample.side}) can be encoded, and edge.gates.min_spectra is "
                f"{edge.gates.min_spectra}: too few to judge the export. Give more spectra with --held-out FILE, or "
                f"allow fewer with --set edge.gates.min_spectra={max(1, int(usable.sum()) // 4)}"
            )
        self.bytes_before = _bytes(trained)
        self._parity: dict[str, float] = {}
        self._float = self._scratch / "float32.onnx"
        if self._request.target != TORCH:
            self._say("write the float32 graph and compare it with PyTorch")
            write_onnx(self._network, self._float)
            self._parity = check_onnx(self._float, self._network)

    def attempt(self, precision: str) -> Attempt:
        """Convert to a precision and judge the result by all gates."""
        attempt = Attempt(precision)
        if self._request.target == TORCH:
            attempt.bytes = _bytes(self._model)
            network = TorchNetwork(self._network)
            self._judge(attempt, network, network)
            return attempt
        self._say(f"convert to {precision}")
        path = self._scratch / f"{precision}.onnx"
        attempt.layers = self._convert(precision, path)
        if precision == INT8 and not any(layer.is_int8 for layer in attempt.layers):
            attempt.reason = (
                "even a single layer in INT8 would exceed the error that the gates allow"
                if attempt.layers
                else "it has no large layer outside the decoder, which is fitted to each spectrum in float32"
            )
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

    def parts(self, weights: str, pruned: dict[str, Any] | None) -> Parts:
        """Return everything that goes into the bundle."""
        judged = self.bins[0].members
        return Parts(
            profile=self._profile,
            request=self._request,
            sample=self._sample,
            calibration=self._calibration,
            num_held_out=int(judged.sum()),
            model=self._model,
            card=self._card,
            network=self._network,
            ordinary=self._ordinary,
            spread=np.nanstd(self._converted.latents[judged], axis=0),
            weights=weights,
            pruned=pruned,
            bytes_before=self.bytes_before,
            scratch=self._scratch,
        )

    def _see_in_pytorch(self, model: torch.nn.Module, card: dict, seed: int) -> tuple[Seen, Ordinary]:
        """Return the results of a network on the held-out spectra, and what anomaly scores compare with."""
        sample = self._sample
        known, chi2 = see_in_pytorch(
            model, card, sample.train, sample.train_rows, self._say, "training spectra in PyTorch"
        )
        reference = None if self._train_labels is None else (known, self._train_labels)
        found = see_in_pytorch(
            model, card, sample.held_out, sample.held_out_rows, self._say, "held-out spectra in PyTorch"
        )
        ordinary = fit_ordinary((known, chi2, *self._at_train), (*found, *self._at), seed)
        return with_meaning(*found, self._at, ordinary, reference), ordinary

    def _judge(self, attempt: Attempt, exact: Network, fast: Network) -> None:
        """Judge a converted graph: its results on the CPU, its latency on the fastest hardware of this machine."""
        self._say(f"judge {attempt.precision} by {int(self.bins[0].members.sum()):,} held-out spectra")
        after = self._see_through_runtime(exact)
        gates = self._profile.edge.gates
        attempt.verdicts = judge(self._trained, self._converted, after, self.bins, gates, self._labels)
        self._time(attempt, fast)

    def _see_through_runtime(self, network: Network) -> Seen:
        """Return the results of the exported graph; scores compare with what goes into the bundle."""
        sample, preparation = self._sample, self._network.preparation
        reference = None
        if self._train_labels is not None:
            what = "training spectra through the graph"
            known, _ = see_through_runtime(network, preparation, sample.train, sample.train_rows, self._say, what)
            reference = (known, self._train_labels)
        what = "held-out spectra through the graph"
        found = see_through_runtime(network, preparation, sample.held_out, sample.held_out_rows, self._say, what)
        return with_meaning(*found, self._at, self._ordinary, reference)

    def _convert(self, precision: str, path: Path) -> list[Layer]:
        """Write the graph; return the decision on each large layer, for INT8 only."""
        if precision == FP32:
            shutil.copyfile(self._float, path)
        elif precision == FP16:
            write_fp16(self._float, path)
        else:
            for_tensorrt = self._request.target == TENSORRT
            preparation = self._network.preparation
            spectra = prepare_all(self._sample.train, self._calibration, preparation)
            layers, calibration, named = choose_layers(
                self._float,
                spectra,
                preparation,
                self._profile.edge.gates,
                self._scratch,
                for_tensorrt=for_tensorrt,
                progress=self._say,
            )
            small = [layer.name for layer in layers if layer.is_int8]
            write_int8(named, path, small, calibration, for_tensorrt=for_tensorrt)
            write_fp16(path, path)
            return layers
        return []

    def _build(self, path: Path, precision: str) -> Engine | None:
        engine, batch = self._scratch / f"{precision}.engine", self._profile.edge.latency_batch
        return build_engine(path, engine, self._network.inputs, batch, engine_options(self._request))

    def _time(self, attempt: Attempt, network: Network) -> None:
        """Measure one spectrum at a time and batches; judge by the former."""
        sample, edge, preparation = self._sample, self._profile.edge, self._network.preparation
        rows = sample.held_out_rows[self.bins[0].members]
        self._say("measure the latency")
        with measured_energy() as energy_j:
            attempt.latencies = [
                measure_latency(network, preparation, sample.held_out, rows, batch, energy_j, edge.latency_calls)
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


def _bytes(model: torch.nn.Module) -> int:
    """Size of the weights and constants [byte]."""
    return sum(values.numel() * values.element_size() for values in model.state_dict().values())


def _refuse_to_replace(request: ExportRequest, path: Path) -> None:
    if path.exists() and not request.replace:
        raise CheckpointError(f"{path}: exists already; remove it, choose another folder with --out, or give --replace")
