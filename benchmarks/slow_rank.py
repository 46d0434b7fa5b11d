"""Find a rank that something outside slows down, and say nothing of ranks that are alike.

    python -m benchmarks.slow_rank [--seconds 75]

Trains a small network on two ranks twice. In the second run, one rank is stopped and continued by signals every 0.6 s,
so that it has half of the time; the trainer knows nothing of this. Prints the shares that the training records hold,
and what `hpctrain advise` says.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.ranks import make_run, start_ranks
from benchmarks.step_time import SMALL_NETWORK
from hpctrain.advice.advise import advise
from hpctrain.advice.gather import summarise
from hpctrain.rundir import RunDir

SLOWED = 1
"""Rank that is stopped and continued."""
HALF_CYCLE_S = 0.3


def trained(folder: Path, name: str, seconds: float, is_slowed: bool) -> RunDir:
    """Return a run of two ranks that trained for this time [s] after its first record."""
    train = {"batch_size": 32, "epochs": 10**6, "evaluate_every_steps": 10**8, "device": "cpu"}
    run = make_run(
        folder, name, 256, 500, 2, model=SMALL_NETWORK, train=train, checkpoint={"every_steps": 10**6},
        track={"tensorboard": False},
    )  # fmt: skip
    ranks = start_ranks(["-m", "hpctrain.train", str(run.path)], 2, quiet=True)
    while not any(run.read_metrics("train")):
        time.sleep(HALF_CYCLE_S)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for number in (signal.SIGSTOP, signal.SIGCONT) if is_slowed else (signal.SIGCONT,):
            ranks[SLOWED].send_signal(number)
            time.sleep(HALF_CYCLE_S)
    for rank in ranks:
        rank.send_signal(signal.SIGTERM)
    for rank in ranks:
        rank.wait()
    return run


def line_of(run: RunDir, name: str) -> str:
    """Return what the records of a run say, and the advice."""
    records = [record for record in run.read_metrics("train") if "peer_wait_share" in record]
    exchange, peers = (
        statistics.mean(record[share] for record in records) for share in ("exchange_share", "peer_wait_share")
    )
    slowed = statistics.mean(record["slowest_rank"] == SLOWED for record in records)
    said = [found.seen for found in advise(summarise(run)) if found.rule == "waiting-for-peers"]
    return (
        f"{name:<10}{100 * exchange:>9.0f} %{100 * peers:>9.0f} %{100 * slowed:>14.0f} %   {said[0] if said else '-'}"
    )


def main() -> None:
    """Print one line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75.0, help="time of each run (75)")
    seconds = parser.parse_args().seconds
    print(f"{'ranks':<10}{'exchange':>11}{'peers':>11}{f'rank {SLOWED} is last':>16}   waiting-for-peers")
    with tempfile.TemporaryDirectory() as folder:
        for name, is_slowed in (("alike", False), ("one slow", True)):
            print(line_of(trained(Path(folder), name.replace(" ", "-"), seconds, is_slowed), name), flush=True)


if __name__ == "__main__":
    main()
