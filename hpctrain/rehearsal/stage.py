"""A run as the trainer builds it, in a temporary run directory, with one rank and without records."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.distributed.group import be_deterministic, choose_device
from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.errors import CheckpointError, Problem, ProfileError
from hpctrain.families.store import CARD
from hpctrain.profile.families import family_of
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir
from hpctrain.samples.device import on_device
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.protocols import PADDING_ROW, Batch
from hpctrain.train.arithmetic import set_float32_arithmetic
from hpctrain.train.build import build_run, open_data
from hpctrain.train.culprits import rows_of
from hpctrain.train.run import Data, Rank, Run

if TYPE_CHECKING:
    from hpctrain.train.schedule import Schedule

NewSchedule = Callable[[Profile, Data], "Schedule"]


@contextlib.contextmanager
def staged(
    profile: Profile, source: str, device: str | None, card: Path | None = None, schedule: NewSchedule | None = None
) -> Iterator[Run]:
    """Build a run at step 0 as the only rank; nothing that it writes outlives the block.

    Parameters
    ----------
    profile : Profile
        Its ``train.compile`` is ignored: hooks do not see into a compiled network.
    source : str
        Where the profile comes from, for messages.
    device : str or None
        ``cpu``, ``cuda`` or ``auto``; None for ``train.device``.
    card : Path, optional
        Folder with the card of a model that exists already, whose sizes are kept.
    schedule : callable, optional
        Makes another schedule than that of the profile.

    Raises
    ------
    ProfileError
        The model learns in rounds, the batch size is not known yet, or the device cannot do what the profile asks for.
    DataError
        The data are missing or unfit.
    """
    _refuse(profile, source)
    profile = profile.model_copy(update={"train": profile.train.model_copy(update={"compile": False})})
    world = World()
    place = choose_device(world, device or profile.train.device)
    if profile.train.precision == "fp16" and place.type == "cpu":
        message = "fp16 needs a GPU, and this process sees none; run this on a node with a GPU"
        raise ProfileError(source, [Problem("train.precision", message)])
    if profile.train.deterministic:
        be_deterministic(place)
    set_float32_arithmetic(profile.train.precision)
    with tempfile.TemporaryDirectory(prefix="hpctrain-") as folder:
        directory = RunDir(Path(folder) / "run")
        directory.make_folders()
        if card is not None:
            _copy_card(card, directory)
        heartbeat = Heartbeat(directory, world, 1, profile.monitor.heartbeat_s)  # never started: it writes nothing
        watchdog = Watchdog(None, directory.logs / "stacks.txt", lambda: "rehearsing")
        rank = Rank(directory, world, place, 1, StopRequest(), heartbeat, watchdog, None)
        data = open_data(profile, directory, world)
        run = build_run(rank, profile, data, None if schedule is None else schedule(profile, data))
        try:
            yield run
        finally:
            data.samples.close()


def _refuse(profile: Profile, source: str) -> None:
    if family_of(profile).how != "gradient":
        message = (
            f"{profile.model.family} learns in rounds, each from all training samples: there is no batch, learning "
            "rate or gradient to look into; see the panels of hpctrain report"
        )
        raise ProfileError(source, [Problem("model.family", message)])
    if not profile.update_shape.is_settled:
        message = "auto is not settled, because no attempt has trained yet; set a number: --set train.batch_size=32"
        raise ProfileError(source, [Problem("train.batch_size", message)])


def _copy_card(folder: Path, directory: RunDir) -> None:
    directory.model.mkdir()
    try:
        shutil.copyfile(folder / CARD, directory.model / CARD)
    except OSError as error:
        message = f"{folder / CARD}: cannot be read ({error.strerror}); the run has not begun to train"
        raise CheckpointError(message) from error


def rows_at(run: Run, step: int, without: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of the set in the step from `step` to ``step + 1``.

    Parameters
    ----------
    run : Run
    step : int
    without : ndarray, int64, optional
        Rows that become padding; the others keep their places, and so their random numbers.

    Returns
    -------
    ndarray, shape (micro-batches, B), int64
        -1 is padding.
    """
    rows = rows_of(run, range(step, step + 1), range(run.schedule.num_micro_batches))
    return rows if without is None else np.where(np.isin(rows, without), PADDING_ROW, rows)


@contextlib.contextmanager
def batches_of(run: Run, steps: range, without: np.ndarray | None = None) -> Iterator[Iterator[Batch]]:
    """Give the micro-batches of these steps in their order, as the trainer reads them."""
    requests = (rows for step in steps for rows in rows_at(run, step, without))
    data, is_gpu = run.profile.data, run.device.type == "cuda"
    batches = read_ahead(run.data.samples, requests, run.profile.reader_threads, data.prefetch_batches, pin=is_gpu)
    with contextlib.closing(batches):
        yield on_device(batches, run.device)


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
