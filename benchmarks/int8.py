"""Measure accuracy and speed of INT8 graphs with and without the bound that prevents overflow on CPUs without VNNI.

    python benchmarks/int8.py RUN [--rounds 7]

RUN is the directory of a finished run, whose held-out spectra the benchmark encodes. All large layers are INT8, also
those that ``hpctrain export`` would leave in float32. "exact" computes with the same rounded numbers in float32, with
the sums of a CPU with VNNI; "this CPU" uses the integer kernels of onnxruntime on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from hpctrain.edge.networks import exported_network
from hpctrain.edge.onnx_file import write_onnx
from hpctrain.edge.placement import SMALLEST_SHARE
from hpctrain.edge.prepare import Preparation, Prepared
from hpctrain.edge.quantise import LARGEST_PAIR, calibrate, name_operations, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import choose_calibration, open_sample, prepare_all
from hpctrain.families.store import load_model
from hpctrain.profile.load import load_profile

SCHEMES = {"full 8 bits": 255, "bounded pairs": LARGEST_PAIR}
_CPU = ["CPUExecutionProvider"]


def results(network: OnnxNetwork, preparation: Preparation, prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Return latents (N, S) and reduced chi-square (N,)."""
    columns = preparation.catalogue(prepared, network(prepared.feeds))
    return columns["LATENT_VEC"].astype(np.float32), columns["RECON_MSE"]


def milliseconds(networks: list[OnnxNetwork], prepared: Prepared, rounds: int) -> list[list[float]]:
    """Return the CPU time of a call with one spectrum, by network and round; rounds alternate between networks."""
    feeds = {name: value[:1] for name, value in prepared.feeds.items()}
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(rounds):
        for network, found in zip(networks, times, strict=True):
            network(feeds)
            began_s = time.process_time()
            for _ in range(10):
                network(feeds)
            found.append(100 * (time.process_time() - began_s))
    return times


def table(run: Path, rounds: int) -> list[str]:
    """Measure and return the lines of a Markdown table."""
    profile = load_profile(run / "profile.yaml")
    model, card = load_model(run)
    network, sample = exported_network(model, card), open_sample(profile)
    preparation = network.preparation
    held_out = prepare_all(sample.held_out, sample.held_out_rows, preparation)
    chosen = choose_calibration(sample, preparation, profile.edge.calibration_spectra)
    lines = [
        f"{len(held_out.position)} held-out spectra, {sum(w.numel() for w in model.parameters()):,} weights",
        "",
        "| weights | sums | rms error of latents | rise of the median χ² | batch 1, CPU time / fp32 |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = folder / "float32.onnx"
        write_onnx(network, graph)
        layers = name_operations(graph, graph)
        ranges = calibrate(graph, layers, prepare_all(sample.train, chosen, preparation).feeds, folder)
        layers = [layer for layer in layers if ranges.share[layer] >= SMALLEST_SHARE]
        timed = [OnnxNetwork(graph, _CPU, threads=1)]
        latents, chi2 = results(timed[0], preparation, held_out)
        spread = np.nanstd(latents, axis=0)
        alive, rows = spread > 1e-6 * spread.max(), []
        for scheme, pair in SCHEMES.items():
            path = folder / f"{pair}.onnx"
            write_int8(graph, path, layers, ranges, for_tensorrt=False, largest_pair=pair)
            timed.append(OnnxNetwork(path, _CPU, threads=1))
            for sums, compute in (("exact", OnnxNetwork(path, _CPU, fused=False)), ("this CPU", timed[-1])):
                found, misfit = results(compute, preparation, held_out)
                error = float(np.sqrt(np.nanmean(np.square((found - latents)[:, alive] / spread[alive]))))
                rows.append((scheme, sums, error, float(np.nanmedian(misfit) / np.nanmedian(chi2) - 1), len(timed) - 1))
        times = milliseconds(timed, held_out, rounds)
    for scheme, sums, error, rise, index in rows:
        ratios = sorted(mine / its for mine, its in zip(times[index], times[0], strict=True))
        speed = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})" if sums == "this CPU" else "-"
        lines.append(f"| {scheme} | {sums} | {error:.4f} | {100 * rise:+.3f} % | {speed} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    from benchmarks.__main__ import machine

    print(machine())
    for line in table(arguments.run, arguments.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
