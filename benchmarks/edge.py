"""Measure latency and size of exported networks on this machine's CPU, as ratios to PyTorch.

    python benchmarks/edge.py [--rounds 7] [--pixels 1024] [--latents 10] [--batches 1 64] [--all]

The benchmark compares the default network, which fits each spectrum by least squares and improves its latents by a
Gauss-Newton step, with the network of convolutions. Both have new weights (time and size do not depend on their values)
and read simulated spectra. Each round calls every variant once, and ratios are those within a round, so that other load
on the machine affects all variants alike. With one thread, the CPU time is measured, not the wall time. Times are those
of the network alone; the preparation is timed by itself. The gates of `hpctrain export` check the accuracy of exports.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from hpctrain.edge.importance import unit_importance
from hpctrain.edge.networks import ExportedNetwork, exported_network
from hpctrain.edge.onnx_file import write_onnx
from hpctrain.edge.placement import SMALLEST_SHARE
from hpctrain.edge.quantise import calibrate, name_operations, write_fp16, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import prepare_all
from hpctrain.edge.slim import slim
from hpctrain.families.spectral_vae.choices import CONVOLUTIONAL, RANDOM
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import NormaliseSection, SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import simulate

REFERENCE = "PyTorch eager"
_NUM_SPECTRA = 256
_SHARE_LEFT = 0.5
CARD = {"family": "spectral_vae", "normalise": NormaliseSection().model_dump(mode="json")}
_SMALLEST_ROUND_S = 0.05
_PAUSE_S = 0.03
"""Pause before each variant [s], because the threads of the previous one spin for a while and would use its cores."""

NETWORKS = {
    "": {},
    "convolutions, ": {"encoder": CONVOLUTIONAL, "start": RANDOM, "refine": 0, "encoder_hidden": [128, 64, 32]}
    | {"decoder_hidden": [64, 256, 1024], "rest_oversampling": 1},
}
"""Sections of the networks, by the beginning of their names in the table."""

Call = Callable[[dict[str, np.ndarray]], object]


def variants(
    folder: Path, num_pixels: int, latents: int, threads: int, every: bool
) -> tuple[dict[str, tuple[Call, int]], dict[str, np.ndarray]]:
    """Return the call and the size [byte] of each variant, and the inputs."""
    path = folder / "spectra.h5"
    simulate(path, SimulateSection(num_spectra=_NUM_SPECTRA, num_pixels=num_pixels))
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.arange(len(spectra))
    facts = SpectraFacts.from_spectra(spectra, rows)
    made: dict[str, tuple[Call, int]] = {}
    for which, values in NETWORKS.items():
        section = SpectralVAESection(latent_size=latents, **values)
        torch.manual_seed(1)
        model = SpectralVAE(section, facts).eval()
        network = exported_network(model, CARD)
        prepared = prepare_all(spectra, rows, network.preparation)
        print(
            f"{which or 'default, '}{sum(w.numel() for w in model.parameters()):,} weights, R {model.grid.num_pixels}"
        )
        size = sum(values.numel() * values.element_size() for values in model.state_dict().values())
        made[f"{which}PyTorch eager"] = (_in_torch(network, network.module), size)
        if every:
            made[f"{which}PyTorch compiled"] = (_in_torch(network, torch.compile(network.module, dynamic=False)), size)
        made |= _converted(folder, which, "", network, prepared.feeds, threads)
        if every:
            smaller, _ = slim(model, section, section, unit_importance(model, CARD, spectra, rows[:32]), _SHARE_LEFT)
            half = exported_network(smaller.eval(), CARD)
            made |= _converted(folder, which, ", half the units", half, prepared.feeds, threads)
        if not which:
            feeds = prepared.feeds
            one = spectra.read(rows[:1])
            row = [values.numpy() for values in (one.flux, one.ivar, one.wavelength_aa, one.redshift)]
            made["preparation in numpy, one spectrum"] = (_preparation(network, row), 0)
    return made, feeds


def _converted(
    folder: Path, which: str, how: str, network: ExportedNetwork, feeds: dict[str, np.ndarray], threads: int
) -> dict[str, tuple[Call, int]]:
    """Write the graphs of a network; return their calls and sizes."""
    full, fp16, int8 = (folder / f"{which}{how}-{kind}.onnx" for kind in ("fp32", "fp16", "int8"))
    write_onnx(network, full)
    layers = name_operations(full, full)
    ranges = calibrate(full, layers, feeds, folder)
    large = [layer for layer in layers if ranges.share[layer] >= SMALLEST_SHARE]
    write_fp16(full, fp16)
    kinds = [("fp32", full), ("FP16 weights", fp16)]
    if large:
        write_int8(full, int8, large, ranges, for_tensorrt=False)
        kinds.append(("INT8", int8))
    return {
        f"{which}ONNX Runtime {kind}{how}": (
            OnnxNetwork(path, ["CPUExecutionProvider"], threads),
            path.stat().st_size,
        )
        for kind, path in kinds
    }


def _preparation(network: ExportedNetwork, row: list[np.ndarray]) -> Call:
    return lambda _: network.preparation(*row)


def _in_torch(network: ExportedNetwork, module: Callable) -> Call:
    names = [port.name for port in network.inputs]

    @torch.no_grad()
    def call(feeds: dict[str, np.ndarray]) -> object:
        return module(*(torch.from_numpy(feeds[name]) for name in names))

    return call


def measure(
    made: dict[str, tuple[Call, int]], feeds: dict[str, np.ndarray], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the time of a call of each variant in each round [s]."""
    repeats = {}
    for name, (call, _) in made.items():
        for _ in range(2):  # the first call compiles and allocates
            call(feeds)
        repeats[name] = max(1, round(_SMALLEST_ROUND_S / max(_timed(call, feeds, 1, clock), 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, (call, _) in made.items():
            time.sleep(_PAUSE_S)
            call(feeds)
            times[name].append(_timed(call, feeds, repeats[name], clock))
    return times


def _timed(call: Call, feeds: dict[str, np.ndarray], repeats: int, clock: Callable[[], float]) -> float:
    started_s = clock()
    for _ in range(repeats):
        call(feeds)
    return (clock() - started_s) / repeats


def table(rounds: int, num_pixels: int, latents: int, batches: list[int], threads: int, every: bool) -> list[str]:
    """Measure and return the lines of a Markdown table."""
    clock = time.process_time if threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        made, feeds = variants(Path(folder), num_pixels, latents, threads, every)
        found = {
            batch: measure(
                made,
                {name: np.resize(value, (batch, *value.shape[1:])) for name, value in feeds.items()},
                rounds,
                clock,
            )
            for batch in batches
        }
    titles = [f"batch {batch}, ms | ratio" for batch in batches]
    lines = [f"| | {' | '.join(titles)} | MB | ratio |", "|---" * (3 + 2 * len(batches)) + "|"]
    size = made[REFERENCE][1]
    for name, (_, number) in made.items():
        cells = []
        for batch in batches:
            times, reference = found[batch][name], found[batch][REFERENCE]
            ratios = sorted(mine / its for mine, its in zip(times, reference, strict=True))
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            cells += [f"{1e3 * statistics.median(times):.2f}", spread]
        lines.append(f"| {name} | {' | '.join(cells)} | {number / 1e6:.1f} | {number / size:.2f} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--latents", type=int, default=10)
    parser.add_argument("--all", action="store_true", help="also compiled PyTorch, and both networks pruned by half")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch and ONNX Runtime")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    from benchmarks.__main__ import machine

    print(machine())
    print(
        f"{arguments.pixels} pixels, {arguments.threads} threads, {'CPU' if arguments.threads == 1 else 'wall'} time, "
        f"median of {arguments.rounds} rounds (minimum-maximum), ratios to {REFERENCE}\n"
    )
    measured = (
        arguments.rounds,
        arguments.pixels,
        arguments.latents,
        arguments.batches,
        arguments.threads,
        arguments.all,
    )
    for line in table(*measured):
        print(line, flush=True)


if __name__ == "__main__":
    main()
