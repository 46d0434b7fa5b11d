"""Fine-tune a network between two prunings, by a run of the ordinary trainer in its own run directory.

So fine-tuning is logged, checkpointed and resumed like any run, and an interrupted export continues.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hpctrain.errors import EXIT_INTERRUPTED, EXIT_REQUEUE, HpctrainError
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import WEIGHTS, write_card
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.profile.load import dump_profile
from hpctrain.profile.schema import Profile
from hpctrain.profile.targets import THIS_MACHINE
from hpctrain.rundir import RunDir, write_atomic

_DEFAULT_SHARE = 0.2
"""Learning rate of fine-tuning as a share of the run's, if the profile gives none."""
_EVALUATIONS = 4


class FinetuneError(HpctrainError):
    """Fine-tuning did not finish; the exit code is the trainer's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def finetune_profile(
    profile: Profile, section: SpectralVAESection, init_from: Path, steps: int, num_train: int, *, keep_zeros: bool
) -> Profile:
    """Return the profile of a fine-tuning run: the same data and global batch, one process, few steps, a low rate.

    Parameters
    ----------
    profile : Profile
        Profile of the run that is exported.
    section : SpectralVAESection
        Section of the pruned network.
    init_from : Path
        Model folder of the pruned network.
    steps : int
    num_train : int
        Number of training spectra.
    keep_zeros : bool
        Whether weights that are 0 stay 0, for networks that were pruned by zeros.
    """
    train, edge = profile.train, profile.edge
    rate = edge.finetune_learning_rate or _DEFAULT_SHARE * train.learning_rate
    every = max(1, math.ceil(steps / _EVALUATIONS))
    changes: dict[str, Any] = {
        "init_from": str(init_from),
        "keep_zeros": keep_zeros,
        # The same global batch in one process, however the profile writes it.
        "global_batch": profile.global_batch,
        "accumulation": 1,
        "freeze": [],  # all remaining weights of a pruned network have to adapt
        "max_steps": steps,
        "epochs": max(1, math.ceil(steps * profile.global_batch / num_train)),
        "learning_rate": rate,
        "final_learning_rate": min(train.final_learning_rate, rate),
        "warmup_steps": min(train.warmup(steps), steps // 10),
        "evaluate_every_steps": every,
        "early_stopping": None,
    }
    launch = {
        "cluster": THIS_MACHINE,
        "nodes": 1,
        "ranks_per_node": 1,
        "gpus_per_node": min(1, profile.launch.gpus_per_node),
    }
    model = section.model_copy(update={"beta_warmup_steps": 0})  # the network is trained already
    return profile.model_copy(
        update={
            "name": profile.name,
            "launch": profile.launch.model_copy(update=launch),
            "model": model,
            "train": train.model_copy(update=changes),
            "edge": edge.model_copy(update={"export_at_end": None}),
            "checkpoint": profile.checkpoint.model_copy(update={"every_steps": every, "keep_every_steps": None}),
            "track": profile.track.model_copy(update={"mlflow": None, "wandb": None}),  # a step of an export, not a run
        }
    )


def finetune(folder: Path, profile: Profile, facts: SpectraFacts) -> Path:
    """Train in a run directory; an unfinished run there continues, a finished one stays unchanged.

    Parameters
    ----------
    folder : Path
        Run directory.
    profile : Profile
        From :func:`finetune_profile`.
    facts : SpectraFacts
        Facts of the data of the network that was pruned, so that its rest grid stays the same.

    Returns
    -------
    Path
        Folder of the finished model.

    Raises
    ------
    FinetuneError
        The trainer was stopped (75, 130) or failed.
    """
    run = RunDir(folder)
    if (run.model / WEIGHTS).is_file():
        return run.model
    if not run.profile.is_file():
        run.path.mkdir(parents=True, exist_ok=True)
        entries = {
            "name": profile.name,
            "normalise": profile.data.normalise.model_dump(mode="json"),
            "split": profile.data.split.model_dump(mode="json"),
            "seed": profile.train.seed,
        }
        write_card(run.model, profile.model, facts, entries)
        write_atomic(run.profile, dump_profile(profile))
    code = _train(run)
    if code in (EXIT_REQUEUE, EXIT_INTERRUPTED):
        raise FinetuneError(f"{run.path}: fine-tuning is saved; rerun the same command to continue", code)
    if code != 0:
        raise FinetuneError(
            f"{run.path}: fine-tuning ended with exit code {code}; see the error above. Rerun the same command to "
            "continue from its newest checkpoint",
            code if 0 < code < 128 else 1,
        )
    return run.model


def _train(run: RunDir) -> int:
    """Run the trainer as one process, pass signals on, and return its exit code."""
    foreign = ("SLURM_", "HPCTRAIN_", "MASTER_", "TORCHELASTIC_")
    alone = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign) and k not in alone}
    command = [sys.executable, "-m", "hpctrain.train", str(run.path)]
    # The trainer prints progress; standard output is kept for the results of the export.
    process = subprocess.Popen(command, env=environment, stdout=2)
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR2):
            previous[number] = signal.signal(number, lambda received, _: process.send_signal(received))
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # Ctrl-C reaches the trainer too, which saves and ends
                continue
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
