"""Look into one step of a run: replay it from the checkpoint before it, and name samples, values and layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hpctrain.errors import Problem, ProfileError
from hpctrain.metrics.events import Started
from hpctrain.metrics.read import History, read_history
from hpctrain.profile.load import load_profile
from hpctrain.profile.resume import plain
from hpctrain.rehearsal.choose import Chosen, checkpoint_before, choose_step, losses_of
from hpctrain.rehearsal.layers import Layer, Watch
from hpctrain.rehearsal.objects import SHOWN, Object, objects_of
from hpctrain.rehearsal.panel import family_panel
from hpctrain.rehearsal.replay import Agreement, Point, agreement, begin, kept, point_of, replay
from hpctrain.rehearsal.stage import batches_of, device_name, staged
from hpctrain.rundir import RunDir
from hpctrain.train.run import Run

AFTER = 20
"""Steps after the chosen one that ``--without`` replays by default."""
CULPRITS = "culprits"

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]


@dataclass
class Autopsy:
    """What was found in a step.

    Parameters
    ----------
    run : RunDir
    chosen : Chosen
        The step k: it leads from k - 1 to k updates.
    checkpoint : int or None
        Step of the checkpoint from which the replay began; None for the start of the run.
    device : str
    points : list of Point
        The replayed steps, the chosen one last.
    agreement : Agreement
    doubts : list of str
        Possible reasons why the replay may differ from the run.
    objects : list of Object
        The samples of the step, the most suspicious first.
    layers : list of Layer
        In the order of the network.
    words : (str, str)
        What one sample and several are called.
    coordinate : str or None
        Name of the coordinate along a sample.
    panel : str
        The first objects as the report of the family draws samples, as HTML; empty if it draws none.
    learning_rate : float
        That of the chosen step.
    left_out : list of int
        Objects without which the steps were replayed.
    curves : dict of str to list of Point
        Losses ``with`` and ``without`` them; empty if that was not asked for.
    """

    run: RunDir
    chosen: Chosen
    checkpoint: int | None
    device: str
    points: list[Point]
    agreement: Agreement
    doubts: list[str]
    objects: list[Object]
    layers: list[Layer]
    words: tuple[str, str]
    coordinate: str | None
    panel: str = ""
    learning_rate: float = 0.0
    left_out: list[int] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)

    @property
    def culprits(self) -> list[Object]:
        """The samples that stand out."""
        return [item for item in self.objects if item.stands_out]

    @property
    def point(self) -> Point:
        """The chosen step in the replay."""
        return self.points[-1]


def look_into(
    directory: RunDir,
    step: int | None,
    device: str | None,
    bar: Bar,
    without: Sequence[int] | str | None = None,
    num_steps: int | None = None,
) -> Autopsy:
    """Replay a step of a run and look into it; the run directory is only read.

    Parameters
    ----------
    directory : RunDir
    step : int or None
        None chooses the step of the divergence, or of the largest spike.
    device : str or None
        None for that of the profile.
    bar : callable
        Takes a text and a number; returns a context manager that yields a function which takes what is done.
    without : sequence of int, or ``"culprits"``, optional
        Target ids to leave out in a second replay; ``culprits`` for those that stand out.
    num_steps : int, optional
        Steps of the second replay, from the checkpoint; by default to `AFTER` steps after the chosen one.

    Raises
    ------
    ProfileError
        There is no such step or object, or the model learns in rounds.
    CheckpointError, DataError
        The checkpoint or the data cannot be used.
    """
    profile = load_profile(directory.profile)
    torch.set_num_threads(max(1, min(profile.launch.cpus_per_rank, torch.get_num_threads())))
    history = read_history(directory)
    with staged(profile, str(directory.profile), device, card=directory.model) as run:
        chosen = choose_step(directory, history, step)
        checkpoint = checkpoint_before(directory, chosen.step)
        recorded = {record["step"]: record["loss"] for record in losses_of(history)}
        begin(run, directory, checkpoint)
        go_back = kept(run) if without is not None else None
        if without is not None and without != CULPRITS:
            _rows_of(run, without, directory)  # a wrong id ends the command before the long work
        points, objects, layers = _replayed(run, chosen.step, recorded, bar)
        found = Autopsy(
            run=directory,
            chosen=_really(chosen, points[-1].step),
            checkpoint=checkpoint,
            device=device_name(run.device),
            points=points,
            agreement=agreement(points, profile.train.precision),
            doubts=_doubts(directory, history, run, chosen.step),
            objects=objects,
            layers=layers,
            words=(run.kind.words.one, run.kind.words.many),
            coordinate=run.kind.coordinate,
            panel=family_panel(run, np.array([item.row for item in objects[:SHOWN]], dtype=np.int64)),
            learning_rate=points[-1].learning_rate,
        )
        if without is not None and go_back is not None:
            _compare(run, found, without, num_steps, go_back, bar)
    return found


def _really(chosen: Chosen, step: int) -> Chosen:
    if step == chosen.step:
        return chosen
    return Chosen(step, f"the replay is not finite here already, before step {chosen.step}", True)


def _replayed(
    run: Run, until: int, recorded: Mapping[int, float], bar: Bar
) -> tuple[list[Point], list[Object], list[Layer]]:
    """Replay to the step before the last one, then look into the last one."""
    first, points = run.progress.step, []
    if until - 1 > first:
        with bar("replaying steps", until - 1 - first) as tick:
            points = replay(run, until - 1, recorded, tick=lambda step: tick(step - first))
    if points and points[-1].loss is not None and not math.isfinite(points[-1].loss):
        run.progress.step = points.pop().step - 1  # the weights did not change in that step
    step = run.progress.step
    watch = Watch(run.model)
    with watch.watching(), batches_of(run, range(step, step + 1)) as batches:
        result = run.update(step, batches)
        points.append(point_of(run, result, recorded))
    watch.restore()
    with bar(f"computing each of the {run.kind.words.many} alone", run.schedule.global_batch) as tick:
        objects = objects_of(run, step, tick)
    return points, objects, list(watch.layers.values())


def _rows_of(run: Run, targets: Sequence[int], directory: RunDir) -> np.ndarray:
    """Return the training rows of objects.

    Raises
    ------
    ProfileError
        The training set has no such object.
    """
    ids = run.data.samples.target_id[run.data.train_rows]
    unknown = sorted(set(targets) - set(ids.tolist()))
    if unknown:
        message = f"no training {run.kind.words.one} has target_id {', '.join(map(str, unknown))}"
        raise ProfileError(str(directory.path), [Problem("--without", message)])
    return np.unique(run.data.train_rows[np.isin(ids, list(targets))])


def _compare(
    run: Run,
    found: Autopsy,
    without: Sequence[int] | str,
    num_steps: int | None,
    go_back: Callable[[], None],
    bar: Bar,
) -> None:
    """Add the losses of two replays from the checkpoint, with and without some objects."""
    targets = [item.target_id for item in found.culprits] if without == CULPRITS else list(without)
    found.left_out = sorted({int(target) for target in targets})
    if not found.left_out:
        return
    rows = _rows_of(run, found.left_out, found.run)
    first = found.checkpoint or 0
    until = first + num_steps if num_steps is not None else found.chosen.step + AFTER
    until = min(until, run.schedule.total_steps)
    for name, left_out in (("with", None), ("without", rows)):
        go_back()
        with bar(f"replaying {name} them", until - first) as tick:
            found.curves[name] = replay(run, until, {}, left_out, lambda step, tick=tick: tick(step - first))


def _doubts(directory: RunDir, history: History, run: Run, step: int) -> list[str]:
    """Return why this replay may differ from the run, as far as the run directory tells."""
    found = []
    starts = [event for event in history.all_of(Started) if (event.start_step or 0) < step]
    if starts:
        last = starts[-1]
        if (last.world_size or 1) > 1:
            found.append(f"the run summed over {last.world_size} ranks, this replay over one: another order of sums")
        here = device_name(run.device)
        if last.device is not None and last.device != here and not (here == "cpu" and last.device.startswith("cpu")):
            found.append(f"the run computed on {last.device}, this replay on {here}")
        if last.torch is not None and last.torch != torch.__version__:
            found.append(f"the run had torch {last.torch}, this replay has {torch.__version__}")
        leases = {lease["attempt"]: lease.get("profile") for lease in directory.read_attempts()}
        before, now = leases.get(last.attempt), plain(load_profile(directory.profile))
        keys = [key for key in ("data", "model", "train") if before is not None and before.get(key) != now.get(key)]
        if keys:
            found.append(f"the profile has changed since that attempt: {', '.join(keys)}")
    if run.profile.train.compile is False and load_profile(directory.profile).train.compile:
        found.append("the run had a compiled network (train.compile), this replay has not")
    threads, here = run.profile.launch.cpus_per_rank, torch.get_num_threads()
    if run.device.type == "cpu" and threads != here:
        found.append(f"the run summed in {threads} threads (launch.cpus_per_rank), this replay in {here}")
    found.append("the values in the data files may have changed without changing their number")
    return found
