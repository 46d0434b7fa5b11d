"""Write the bundle of an export: write all files to a scratch folder, then rename it once."""

from __future__ import annotations

import importlib.metadata
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.edge.bundle import GOOD, NETWORK, REJECTED, seal_bundle, write_reference
from hpctrain.edge.latency import machine
from hpctrain.edge.networks import ExportedNetwork
from hpctrain.edge.onnx_file import OPSET
from hpctrain.edge.prune import TWO_OF_FOUR, card_extra
from hpctrain.edge.reference import NUM_REFERENCE, Deviation, Reference
from hpctrain.edge.request import TENSORRT, TORCH, Attempt, ExportRequest
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import Sample
from hpctrain.edge.see import Ordinary, see_in_pytorch
from hpctrain.edge.tensorrt import ENGINE, trtexec_command
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import save_model
from hpctrain.launch.provenance import collect
from hpctrain.profile.schema import Profile
from hpctrain.rundir import file_digest, fsync_directory


@dataclass(frozen=True)
class Parts:
    """Everything of an export that goes into its bundle.

    Parameters
    ----------
    profile : Profile
    request : ExportRequest
    sample : Sample
    calibration : ndarray of int64
        Rows of the training spectra that calibrated the ranges.
    num_held_out : int
        Number of held-out spectra that were judged.
    model : torch.nn.Module
        The network before conversion.
    card : dict
        Card of the network.
    network : ExportedNetwork
    ordinary : Ordinary
        What the anomaly scores compare with.
    spread : ndarray, shape (S,)
        Standard deviation of the latents over the held-out spectra.
    weights : str
        Path of the weights that were exported.
    pruned : dict or None
        Widths or zeros before and after pruning.
    bytes_before : int
        Size of the weights of the trained network.
    scratch : Path
        Folder that holds the converted graphs, on the disk of the bundle.
    """

    profile: Profile
    request: ExportRequest
    sample: Sample
    calibration: np.ndarray
    num_held_out: int
    model: torch.nn.Module
    card: dict[str, Any]
    network: ExportedNetwork
    ordinary: Ordinary
    spread: np.ndarray
    weights: str
    pruned: dict[str, Any] | None
    bytes_before: int
    scratch: Path


def engine_options(request: ExportRequest) -> list[str]:
    """Return the options of ``trtexec`` that a pruned network needs."""
    return ["--sparsity=enable"] if request.plan is not None and request.plan.method == TWO_OF_FOUR else []


def write_bundle(parts: Parts, chosen: Attempt, others: list[Attempt]) -> tuple[Path, str | None]:
    """Write the bundle whole or not at all.

    Parameters
    ----------
    parts : Parts
    chosen : Attempt
        Result of the precision that is written.
    others : list of Attempt
        Results of the other precisions that were tried.

    Returns
    -------
    path : Path
        The folder.
    command : str or None
        Command that builds the TensorRT engine, if it was not built here.
    """
    request, sample = parts.request, parts.sample
    good = request.folder(chosen.precision)
    path = good if chosen.is_good else good.with_name(f"{good.name}.rejected")
    status = GOOD if chosen.is_good else REJECTED
    folder = parts.scratch / "bundle"
    folder.mkdir()
    entries = _entries(parts, chosen, others)
    extra = card_extra(parts.card)
    section = SpectralVAESection.model_validate(parts.card["section"], strict=False)
    if request.target == TORCH:
        report = {name: value for name, value in entries.items() if name != "calibration"}
        save_model(folder, parts.model, section, parts.model.facts, {**extra, "export": report, "status": status})
        _publish(folder, path)
        return path, None
    save_model(folder, parts.model, section, parts.model.facts, extra)
    shutil.copyfile(parts.scratch / f"{chosen.precision}.onnx", folder / NETWORK)
    if request.target == TENSORRT:
        entries["tensorrt"] = _add_engine(parts, chosen, folder)
    reference = make_reference(parts, folder / NETWORK)
    ordinary = parts.ordinary
    write_reference(folder, sample.train.wavelength_aa, ordinary.forest, reference, ordinary.reference)
    seal_bundle(
        folder,
        status=status,
        num_pixels=sample.train.num_pixels,
        preparation=parts.network.preparation,
        network={
            "precision": chosen.precision,
            "opset": OPSET,
            "inputs": [port.to_json() for port in parts.network.inputs],
            "outputs": [port.to_json() for port in parts.network.outputs],
            "differences": chosen.differences,
            **({"layers": [layer.to_json() for layer in chosen.layers]} if chosen.layers else {}),
        },
        card=parts.card,
        reference=None if reference is None else {"num_spectra": len(reference), **_tolerances(reference)},
        anomaly_reference=ordinary.origin,
        **entries,
    )
    _publish(folder, path)
    return path, None if chosen.engine is not None else entries.get("tensorrt", {}).get("command")


def _add_engine(parts: Parts, chosen: Attempt, folder: Path) -> dict[str, Any]:
    """Copy the TensorRT engine if it was built here; return the entry of the bundle about it, or how to build it."""
    if chosen.engine is not None:
        shutil.copyfile(parts.scratch / f"{chosen.precision}.engine", folder / ENGINE)
        return chosen.engine.to_json()
    words = trtexec_command("trtexec", parts.network.inputs, parts.profile.edge.latency_batch)
    return {"command": shlex.join([*words, *engine_options(parts.request)])}


def make_reference(parts: Parts, graph: Path) -> Reference | None:
    """Choose the calibration spectra that the device computes first, and measure how far their results may deviate.

    Parameters
    ----------
    parts : Parts
    graph : Path
        The ONNX file of the bundle.

    Returns
    -------
    Reference or None
        None if no calibration spectrum can be encoded. The results are those of PyTorch in float32. The tolerance
        follows from the larger deviation of two runs of the graph: with the kernels of this CPU, and with INT8 computed
        in float32, which gives the sums of a CPU that cannot overflow.
    """
    spectra = parts.sample.train
    latents, chi2 = see_in_pytorch(parts.model, parts.card, spectra, parts.calibration)
    usable = np.flatnonzero(np.isfinite(latents).all(axis=1) & np.isfinite(chi2))
    if not len(usable):
        return None
    places = usable[np.unique(np.linspace(0, len(usable) - 1, min(NUM_REFERENCE, len(usable))).round().astype(int))]
    rows = parts.calibration[places]
    batch = spectra.read(rows)
    reference = Reference(
        flux=batch.flux.numpy().copy(),
        ivar=batch.ivar.numpy().copy(),
        wavelength_aa=batch.wavelength_aa.numpy().astype(np.float64),
        redshift=np.where(spectra.has_redshift[rows], batch.redshift.numpy(), np.nan).astype(np.float64),
        latents=latents[places],
        chi2=chi2[places],
        spread=parts.spread.astype(np.float32),
    )
    measured = Deviation(0.0, 0.0)
    for fused in (True, False):
        network = OnnxNetwork(graph, ["CPUExecutionProvider"], fused=fused)
        measured = measured.worst(reference.deviation(parts.network.preparation, network))
    return replace(reference, tolerance=measured.tolerated())


def _tolerances(reference: Reference) -> dict[str, float]:
    return {"latent_tolerance": reference.tolerance.latents, "chi2_tolerance": reference.tolerance.chi2}


def _entries(parts: Parts, chosen: Attempt, others: list[Attempt]) -> dict[str, Any]:
    """Return the record of the export, as plain JSON values."""
    sample = parts.sample
    return {
        "target": parts.request.target,
        "gates": [verdict.to_json() for verdict in chosen.verdicts],
        "held_out": {
            "side": sample.side,
            "num_spectra": parts.num_held_out,
            "data": sample.held_out.fingerprint(),
        },
        "latency": {**machine(), "measured": [latency.to_json() for latency in chosen.latencies]},
        "bytes": {"before": parts.bytes_before, "after": chosen.bytes},
        "tried": [attempt.to_json() for attempt in others],
        "pruned": parts.pruned,
        "calibration": {
            "num_spectra": len(parts.calibration),
            "target_ids": [int(name) for name in sample.train.target_id[parts.calibration]],
        },
        "provenance": {
            **collect(parts.profile, Path.cwd()),
            "weights": parts.weights,
            "weights_sha256": file_digest(Path(parts.weights)),
            "export_packages": {name: _version(name) for name in ("onnx", "onnxruntime", "onnxscript", "tensorrt")},
        },
    }


def _publish(folder: Path, path: Path) -> None:
    """Move a finished folder to its final path."""
    fsync_directory(folder)
    if path.exists():
        shutil.rmtree(path)
    folder.rename(path)
    fsync_directory(path.parent)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
