"""Make a trained network small and fast for a device, test that it is still as good, and write it as a bundle.

hpctrain export RUN                                           ONNX, float32
hpctrain export RUN --quantise int8                           8-bit convolutions and products, FP16 where INT8 fails
hpctrain export RUN --prune 0.5                               half the filters and units, fine-tuned in rounds
hpctrain export RUN --target tensorrt --quantise int8         and a TensorRT engine, or the command that builds it
hpctrain export model/ --data spectra.h5 --target torch --prune 0.5      a model folder without its run

export compares the network before and after on held-out spectra: over all of them, and in bins of signal to noise ratio
and of redshift. The gates in the `edge` section of the profile are the limits of this comparison (change them with
--set edge.gates.chi2=0.05). If an export fails a gate, the name of its folder ends in .rejected, and the exit code is
7. After an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import enter
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import CheckpointError, GateError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR
from hpctrain.registry.references import is_registered, model_at
from hpctrain.trail.note import note

if TYPE_CHECKING:
    from hpctrain.edge.prune import PrunePlan
    from hpctrain.edge.request import Exported
    from hpctrain.profile.schema import Profile

SOURCE = "hpctrain export"
METHODS = ("structured", "unstructured", "2:4")


_WITH_GATES = ("spectral_vae",)
"""Families with a preparation for devices and gates of their own; others are exported as they are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain export``."""
    parser.add_argument(
        "run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id of a run, or a model folder"
    )
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument(
        "--target",
        choices=("onnx", "torch", "tensorrt"),
        default="onnx",
        help="onnx: a bundle that onnxruntime runs; torch: a model folder; tensorrt: a bundle with an engine",
    )
    parser.add_argument(
        "--quantise",
        choices=("none", "fp16", "int8"),
        default="none",
        help="precision of convolutions and products; if INT8 fails, export tries FP16 (none)",
    )
    parser.add_argument("--prune", type=float, metavar="SHARE", help="share of filters, units or weights to remove")
    parser.add_argument(
        "--prune-method",
        choices=METHODS,
        default="structured",
        help="structured: remove whole filters and units, for a smaller dense network; unstructured: set single "
        "weights to 0, which makes nothing faster; 2:4: set two of each four to 0, which TensorRT can use (structured)",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="number of rounds of pruning and training (edge.prune_rounds)"
    )
    parser.add_argument(
        "--finetune-steps", type=int, metavar="N", help="training steps after each round (edge.finetune_steps)"
    )
    parser.add_argument(
        "--data", nargs="+", metavar="FILE.h5", help="spectra to use instead of those in the run's profile"
    )
    parser.add_argument(
        "--held-out", nargs="+", metavar="FILE.h5", help="spectra to compare on, instead of the run's held-out ones"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (RUN/export/<variant>)")
    parser.add_argument("--replace", action="store_true", help="replace an existing bundle")
    add_set_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Export the network, and print the gates, the size and the latency."""
    overrides = overrides_of(arguments, "run_dir")
    if arguments.run_dir is None:
        raise ProfileError(SOURCE, [Problem("RUN", "which run? `hpctrain list` shows what there is")])
    if is_registered(arguments.run_dir) and arguments.out is None:
        raise ProfileError(SOURCE, [Problem("--out", "is needed: nothing is written into a registered version")])
    arguments.run_dir = model_at(arguments.run_dir, arguments.runs_dir)
    enter(arguments.run_dir)
    profile = _profile(arguments, overrides)
    plan = _plan(arguments, profile)
    if profile.model.family not in _WITH_GATES:
        return _export_plain(arguments, profile)

    from hpctrain.edge.export import export
    from hpctrain.edge.progress import Progress
    from hpctrain.edge.request import ExportRequest

    request = ExportRequest(
        source=arguments.run_dir,
        out=arguments.out,
        target=arguments.target,
        quantise=arguments.quantise,
        plan=plan,
        held_out=_absolute(arguments.held_out),
        replace=arguments.replace,
    )
    exported = export(profile, request, Progress(sys.stderr))
    note("export", arguments.run_dir, out=str(exported.path.absolute()), is_good=exported.is_good)
    print(json.dumps(_as_json(exported), indent=2) if arguments.json else "\n".join(_lines(exported, arguments)))
    if not exported.is_good:
        raise GateError(f"{exported.path}: not good: {exported.chosen.fault}")
    return 0


def _export_plain(arguments: argparse.Namespace, profile: Profile) -> int:
    """Export a network of any other family as it is, in float32, and compare what it predicts."""
    asked = {"--quantise": arguments.quantise != "none", "--prune": arguments.prune is not None}
    asked["--target"] = arguments.target != "onnx"
    if wrong := [name for name, is_asked in asked.items() if is_asked]:
        message = f"the family {profile.model.family} is exported to ONNX in float32 as it is; leave out {wrong[0]}"
        raise ProfileError(SOURCE, [Problem(name, message) for name in wrong[:1]])

    from hpctrain.edge.plain import export_plain

    out = arguments.out or arguments.run_dir / "export" / "onnx-fp32"
    exported = export_plain(profile, arguments.run_dir, out, arguments.replace)
    note("export", arguments.run_dir, out=str(out.absolute()), is_good=True)
    if arguments.json:
        print(json.dumps(exported, indent=2))
    else:
        for name, difference in exported["largest_difference"].items():
            print(f"{name}: differs from PyTorch by at most {difference:.2g} of its largest value")
        print(f"good: fp32 in {out}, compared on {exported['num_compared']:,} held-out samples")
    return 0


def _profile(arguments: argparse.Namespace, overrides: list[str]) -> Profile:
    """Return the profile of the run, or one made from the model's card, changed by ``--data`` and ``--set``."""
    from hpctrain.profile.load import load_profile
    from hpctrain.rundir import read_json

    path: Path = arguments.run_dir
    if not path.is_dir():
        raise CheckpointError(f"{path}: no run directory or model folder here")
    files = [f"data.files={json.dumps(_absolute(arguments.data))}"] if arguments.data else []
    if (path / "profile.yaml").is_file():
        return load_profile(path / "profile.yaml", [*files, *overrides])
    card = read_json(path / "model.json")
    if not isinstance(card, dict) or not {"section", "normalise", "split"} <= card.keys():
        raise CheckpointError(f"{path}: neither a run directory (profile.yaml) nor a model folder (model.json)")
    if not files:
        message = f"{path} is a model folder without spectra; name the files that it was trained on"
        raise ProfileError(SOURCE, [Problem("--data", message)])
    return _profile_of_card(card, path, [*files, *overrides])


def _profile_of_card(card: dict[str, Any], path: Path, overrides: list[str]) -> Profile:
    import tempfile

    import yaml

    from hpctrain.profile.load import load_profile
    from hpctrain.profile.targets import THIS_MACHINE

    text = {
        "name": card.get("name", path.absolute().name),
        "launch": {"cluster": THIS_MACHINE},
        "data": {"files": ["-"], "normalise": card["normalise"], "split": card["split"]},
        "model": card["section"],
        "train": {"seed": card.get("seed", 1)},
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile.yaml"
        file.write_text(yaml.safe_dump(text), encoding="utf-8")
        return load_profile(file, overrides)


def _plan(arguments: argparse.Namespace, profile: Profile) -> PrunePlan | None:
    """Return the pruning that the command line asks for, or raise all problems of the command line."""
    problems = []
    method, share = arguments.prune_method, arguments.prune
    rounds = profile.edge.prune_rounds if arguments.rounds is None else arguments.rounds
    steps = profile.edge.finetune_steps if arguments.finetune_steps is None else arguments.finetune_steps
    if share is not None and not 0 < share < 1:
        problems.append(Problem("--prune", f"{share:g} is not between 0 and 1, such as 0.5 for half"))
    if share is None and method != "structured":
        problems.append(Problem("--prune", f"--prune-method {method} needs a share, such as --prune 0.5"))
    if share is not None and method == "2:4" and share != 0.5:
        problems.append(Problem("--prune", f"{share:g} cannot be: 2:4 takes two of each four, which is 0.5"))
    if rounds < 1:
        problems.append(Problem("--rounds", f"{rounds} is not at least 1"))
    if steps < 0:
        problems.append(Problem("--finetune-steps", f"{steps} is not at least 0"))
    if arguments.target == "torch" and arguments.quantise != "none":
        message = "a model folder holds float32 weights; quantise for --target onnx or tensorrt"
        problems.append(Problem("--quantise", message))
    if problems:
        raise ProfileError(SOURCE, problems)
    if share is None:
        return None

    from hpctrain.edge.prune import PrunePlan

    if method == "2:4" or steps == 0:
        rounds = 1  # 2:4 needs only one round; without training between them, more rounds would only be slower
    return PrunePlan(method, share, rounds, steps)


def _absolute(files: list[str] | None) -> list[str] | None:
    return None if files is None else [str(Path(name).absolute()) for name in files]


def _lines(exported: Exported, arguments: argparse.Namespace) -> list[str]:
    from hpctrain.edge.gates import gate_table

    chosen = exported.chosen
    lines = []
    for attempt in exported.others:
        lines.append(f"{attempt.precision} was tried and not used: {attempt.fault}")
    lines += gate_table(chosen.verdicts)
    differences = [f"{name} by {value:.2g}" for name, value in chosen.differences.items()]
    text = f"; the graph differs from PyTorch at most in {', '.join(differences)} of the largest value"
    lines.append(f"{exported.num_held_out:,} held-out spectra ({exported.side}){text if differences else ''}")
    if exported.pruned is not None:
        lines += _pruned_lines(exported.pruned)
    if chosen.layers:
        small = [layer.name for layer in chosen.layers if layer.is_int8]
        others = [layer.name for layer in chosen.layers if not layer.is_int8]
        named = f"; FP16: {', '.join(others)}, where INT8 would use up the limits of the gates" if others else ""
        lines.append(f"INT8: {len(small)} of {len(chosen.layers)} large layers{named}")
    share = chosen.bytes / exported.bytes_before
    lines.append(f"size {chosen.bytes / 1e6:.2f} MB of {exported.bytes_before / 1e6:.2f} MB before ({share:.2f})")
    lines += [f"latency {latency}" for latency in chosen.latencies]
    if chosen.engine is not None:
        times = "".join(f", {name} {value:g} ms" for name, value in chosen.engine.latency_ms.items())
        lines.append(f"TensorRT engine by {chosen.engine.builder} on {chosen.engine.device or 'this device'}{times}")
    if exported.command is not None:
        lines.append("no TensorRT here; on the device, in the folder of the bundle:")
        lines.append(f"  {exported.command}")
    lines.append(f"{'good' if exported.is_good else 'NOT GOOD'}: {chosen.precision} in {exported.path}")
    if exported.is_good and arguments.target != "torch":
        lines.append(f"  python -m hpctrain.local --infer {shlex.quote(str(exported.path))} FILES")
    return lines


def _pruned_lines(pruned: dict[str, Any]) -> list[str]:
    before, after = pruned["weights_before"], pruned["weights_after"]
    if "layers_after" in pruned:
        lines = [f"pruned: {after:,} of {before:,} weights are left ({after / before:.2f})"]
        for name, widths in pruned["layers_after"].items():
            lines.append(f"  {name} {pruned['layers_before'][name]} -> {widths}")
        return lines
    lines = [f"pruned: {name} {share:.0%} zeros" for name, share in pruned["zeros"].items()]
    if pruned["method"] == "2:4":
        lines.append("two of four: faster only in a TensorRT engine built with --sparsity=enable")
        if skipped := pruned.get("skipped"):
            lines.append(f"not pruned, because the number of inputs is not a multiple of four: {', '.join(skipped)}")
    else:
        lines.append("single zeros make a compressed file smaller, but nothing faster")
    return lines


def _as_json(exported: Exported) -> dict[str, Any]:
    return {
        "path": str(exported.path),
        "good": exported.is_good,
        **exported.chosen.to_json(),
        "held_out": {"side": exported.side, "num_spectra": exported.num_held_out},
        "bytes_before": exported.bytes_before,
        "latency": [latency.to_json() for latency in exported.chosen.latencies],
        "pruned": exported.pruned,
        "command": exported.command,
        "tried": [attempt.to_json() for attempt in exported.others],
    }
