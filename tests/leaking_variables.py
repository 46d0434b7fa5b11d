"""Variables that would make a test see the job, or the settings, it was started from."""

from __future__ import annotations

import os

BEGINNINGS = ("SLURM_", "SBATCH_", "SUBMITIT_", "HPCTRAIN_", "MASTER_", "TORCHELASTIC_", "MLFLOW_", "WANDB_")
NAMES = ("CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
HARMLESS = ("HPCTRAIN_TEST_CACHE",)
"""Read by the tests themselves."""


def leaking() -> list[str]:
    """Return the names of those that are set."""
    return [name for name in os.environ if (name.startswith(BEGINNINGS) or name in NAMES) and name not in HARMLESS]
