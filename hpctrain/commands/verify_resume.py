"""Prove that a profile's runs survive being killed: run it twice, cut one of them at random, compare every bit.

Both runs are made on this machine, below runs/<name>-verify/. The table that says what was done and found is printed
and written beside them. Exit code 0 means identical, 5 that a resume lost or changed something.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("profile", help="YAML profile; a short run is enough, see --steps")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the profile")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="how often to cut the second run (default 5)")
    parser.add_argument("--steps", type=int, metavar="N", help="updates of each run, instead of the profile's")
    parser.add_argument("--ranks", type=int, metavar="N", help="processes, instead of the profile's")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and signals (default 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="where to write the table as well")


def run(arguments: argparse.Namespace) -> int:
    """Run the twins and return the exit code."""
    from hpctrain.errors import CheckpointError, Problem, ProfileError
    from hpctrain.profile.load import dump_profile, load_profile
    from hpctrain.rundir import new_run_id
    from hpctrain.verify.certificate import compare, render
    from hpctrain.verify.twins import make_twin, run_cut, run_straight

    if arguments.kills < 1:
        raise ProfileError("command line", [Problem("--kills", f"{arguments.kills} is not at least 1")])
    # Every loss is compared, so every loss is logged; checkpoints often enough that a cut has one to go back to.
    overrides = [*arguments.set, "train.log_every_steps=1", "launch.nodes=1"]
    if arguments.steps:
        overrides += [f"train.max_steps={arguments.steps}", f"checkpoint.every_steps={max(1, arguments.steps // 8)}"]
    if arguments.ranks:
        overrides.append(f"launch.ranks_per_node={arguments.ranks}")
    profile = load_profile(arguments.profile, overrides)
    world_size = profile.launch.world_size
    stamp = new_run_id()
    name = f"{profile.name}-verify"
    text = dump_profile(profile)
    straight = make_twin(Path(profile.launch.runs_dir), name, f"{stamp}-straight", text)
    cut = make_twin(Path(profile.launch.runs_dir), name, f"{stamp}-cut", text)
    print(f"run 1 of 2, left alone: {straight.path}", flush=True)
    run_straight(straight, world_size)
    total_steps = max(record["step"] for record in straight.read_metrics("train"))
    print(f"run 2 of 2, cut {arguments.kills} times: {cut.path}", flush=True)
    cuts = run_cut(cut, world_size, arguments.kills, total_steps, arguments.seed, lambda line: print(line, flush=True))
    found = compare(straight, cut)
    table = render(profile.name, world_size, total_steps, straight, cut, cuts, found)
    for path in filter(None, (cut.path / "resume-check.md", arguments.out)):
        path.write_text(table, encoding="utf-8")
    print(f"\n{table}")
    if not found.identical:
        raise CheckpointError(f"{cut.path}: the resumed run differs from the undisturbed one; the table says where")
    return 0
