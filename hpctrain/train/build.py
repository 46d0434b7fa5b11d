"""Build all parts of a training run from the run directory's profile; no other module reads the whole profile."""

from __future__ import annotations

import inspect
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.distributed.group import barrier
from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import Watchdog
from hpctrain.distributed.world import World
from hpctrain.errors import DataError
from hpctrain.families import build_model
from hpctrain.families.store import CARD, load_weights, read_card, with_grid_of, write_card
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.plausible import inspect_spectra
from hpctrain.metrics.exporters.opening import open_exporters
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.sampler import Sampler
from hpctrain.profile.files import matching_files
from hpctrain.profile.inspection import Inspection
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import DataSection, ModelSection, Profile, TrainSection
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split, choose_rows
from hpctrain.train.adamw import AdamW
from hpctrain.train.freeze import freeze
from hpctrain.train.pacing import Pacer
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule, mix
from hpctrain.train.state import Progress
from hpctrain.train.step import UpdateStep
from hpctrain.train.watch import build_sampler
from hpctrain.train.zeros import find_zeros


@dataclass(frozen=True)
class Spectra:
    """The open files, and the spectra on each side of the split.

    Parameters
    ----------
    source : SpectraSet
    train_rows, validation_rows : ndarray of int64
        Global rows, sorted.
    blocks : ndarray of int64, or None
        Index in the training rows at which each block that is decoded as a whole begins; None without such blocks.
    section : ModelSection
        The network, with a rest-frame grid that is fixed at the first attempt.
    facts : SpectraFacts
        Facts from which the other shapes of the network are computed; also fixed at the first attempt.
    inspection : Inspection
        Findings in a sample of the training spectra.
    """

    source: SpectraSet
    train_rows: np.ndarray
    validation_rows: np.ndarray
    blocks: np.ndarray | None
    section: ModelSection
    facts: SpectraFacts
    inspection: Inspection


@dataclass
class Run:
    """All parts that the training loop uses.

    Parameters
    ----------
    model : Module
        The network itself, which is saved, evaluated and exported.
    averaged : dict of str to Tensor, or None
        Moving averages of its parameters by name.
    sampler : Sampler
        Reads the sensors; enter it as a context manager while the run trains.
    pacer : Pacer
        Slows the run down where the sensors require it.
    metrics : MetricsWriter or None
        Only on rank 0. It passes records, figures and histograms to the exporters.
    """

    directory: RunDir
    profile: Profile
    world: World
    device: torch.device
    attempt: int
    spectra: Spectra
    schedule: Schedule
    model: torch.nn.Module
    optimizer: AdamW
    loss_scale: LossScale
    averaged: dict[str, torch.Tensor] | None
    update: UpdateStep
    progress: Progress
    stop: StopRequest
    heartbeat: Heartbeat
    watchdog: Watchdog
    checkpoints: CheckpointWriter | None
    metrics: MetricsWriter | None
    sampler: Sampler
    pacer: Pacer


def make_data(data: DataSection, world: World) -> None:
    """Make simulated spectra on rank 0 if the profile asks for them and the file is absent; all ranks wait."""
    is_there = any(is_remote(pattern) or matching_files(pattern) for pattern in data.files)
    if data.simulate is not None and world.is_main and not is_there:
        from hpctrain.ingest.simulate import simulate

        simulate(Path(data.files[0]), data.simulate)
    barrier(world)


def open_data(profile: Profile, run: RunDir, world: World, data: DataSection | None = None) -> Spectra:
    """Open the spectra and split them.

    Parameters
    ----------
    profile : Profile
    run : RunDir
    world : World
    data : DataSection, optional
        Data section of the profile with other files: the copies on this node.

    Raises
    ------
    DataError
        A file is missing or unfit, a side of the split is empty, or a sample of the training spectra shows that
        nothing can be learned from them. All ranks inspect the same sample, so all of them raise.
    """
    source = open_spectra(data or profile.data)
    side = assign_split(source.target_id, profile.data.split)
    train_rows = np.flatnonzero(side == TRAIN).astype(np.int64)
    validation_rows = np.flatnonzero(side == VALIDATION).astype(np.int64)
    train_rows = choose_rows(source.target_id, train_rows, profile.data.max_spectra, profile.data.split.salt)
    for name, rows in (("training", train_rows), ("validation", validation_rows)):
        if len(rows) == 0 and (name == "training" or profile.data.split.validation > 0):
            raise DataError(
                f"{', '.join(profile.data.files)}: no {name} spectra among {len(source)} rows; "
                "use more spectra or another data.split"
            )
    inspection = inspect_spectra(source, train_rows, profile.data)
    inspection.raise_errors(", ".join(profile.data.files))
    blocks = None
    if source.decoded_bytes:
        blocks = source.blocks(train_rows)
        source.keep_window(profile.data.shuffle_window, world.world_size)
    section, facts = _blueprint(run, world, profile, source, train_rows)
    return Spectra(source, train_rows, validation_rows, blocks, section, facts, inspection)


def _blueprint(
    run: RunDir, world: World, profile: Profile, source: SpectraSet, train_rows: np.ndarray
) -> tuple[ModelSection, SpectraFacts]:
    """Compute the sizes of the network once, at the first attempt; later attempts must build the same network.

    This also writes the model's card, so that any checkpoint of the run can be read as a model.
    """
    if world.is_main and not (run.model / CARD).exists():
        section, init_from = profile.model, profile.train.init_from
        if init_from is not None:
            section = with_grid_of(section, init_from)
        write_card(run.model, section, SpectraFacts.from_spectra(source, train_rows), card_entries(profile))
    barrier(world)
    card = read_card(run.model / CARD)
    range_aa = card["section"]["rest_wavelength_aa"]
    grid = {
        "rest_wavelength_aa": None if range_aa is None else tuple(range_aa),  # JSON has no tuples
        "rest_pixels": card["section"]["rest_pixels"],
    }
    return profile.model.model_copy(update=grid), SpectraFacts.from_json(card["facts"])


def card_entries(profile: Profile) -> dict[str, object]:
    """Return the entries of the model's card that describe how to prepare spectra for the model."""
    return {
        "name": profile.name,
        "normalise": profile.data.normalise.model_dump(mode="json"),
        "split": profile.data.split.model_dump(mode="json"),
        "seed": profile.train.seed,
    }


def build_network(
    train: TrainSection, section: ModelSection, facts: SpectraFacts, device: torch.device
) -> torch.nn.Module:
    """Build the network with weights that depend only on ``train.seed``.

    :func:`begin_anew` loads the weights of ``train.init_from`` if there is no checkpoint; after the first checkpoint
    they are no longer read. Only ``train.keep_zeros`` reads them each time, to know which are 0.

    Raises
    ------
    CheckpointError
        The weights to start from are missing, damaged, or of another network.
    ProfileError
        ``train.freeze`` names weights that do not exist, or leaves none to train.
    """
    torch.manual_seed(mix(train.seed, 0x1417))
    model = build_model(section, facts)
    if train.init_from is not None and train.keep_zeros:
        load_weights(model, Path(train.init_from))
    freeze(model, train.freeze)
    if train.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    model.to(device)
    if train.compile:
        model.compile()
    return model


def begin_anew(run: Run) -> None:
    """Load the weights that a run without a whole checkpoint starts from.

    Raises
    ------
    CheckpointError
        The weights of ``train.init_from`` are missing, damaged, or of another network.
    """
    if run.profile.train.init_from is None:
        return
    load_weights(run.model, Path(run.profile.train.init_from))
    if run.averaged is not None:
        for name, parameter in run.model.named_parameters():
            if name in run.averaged:
                run.averaged[name].copy_(parameter.detach())


def build_optimizer(model: torch.nn.Module, train: TrainSection) -> AdamW:
    """Build AdamW without weight decay for biases, norms and other vectors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        ([p for p in parameters if p.dim() >= 2], train.weight_decay),
        ([p for p in parameters if p.dim() < 2], 0.0),
    ]
    return AdamW(groups, (train.adam_beta1, train.adam_beta2), train.adam_eps)


def distribute(model: torch.nn.Module, world: World, device: torch.device) -> torch.nn.Module:
    """Wrap the network so that its gradients are summed over ranks during the backward pass."""
    if world.world_size == 1:
        return model
    names = inspect.signature(DistributedDataParallel).parameters
    no_buffer_sync = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # before 2.13
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **{no_buffer_sync: False},  # buffers are constants; all ranks build the same ones from the same seed
    )


def build_run(
    directory: RunDir,
    profile: Profile,
    world: World,
    device: torch.device,
    attempt: int,
    stop: StopRequest,
    heartbeat: Heartbeat,
    watchdog: Watchdog,
    metrics: MetricsWriter | None,
    spectra: Spectra | None = None,
) -> Run:
    """Build every part of the run on this rank, at step 0; without `spectra` it opens the profile's own files."""
    spectra = spectra or open_data(profile, directory, world)
    schedule = Schedule(profile, len(spectra.train_rows), spectra.blocks)
    model = build_network(profile.train, spectra.section, spectra.facts, device)
    optimizer = build_optimizer(model, profile.train)
    averaged = None
    if profile.train.ema_decay is not None:
        averaged = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    loss_scale = LossScale(profile.train.precision, device)
    names = {parameter: name for name, parameter in model.named_parameters()}
    sampler = build_sampler(directory, profile.monitor, world, device, attempt, heartbeat, metrics)
    pacer = Pacer(world, device, stop, heartbeat, watchdog, sampler)
    update = UpdateStep(
        world,
        schedule,
        spectra.source.num_pixels,
        profile.data,
        profile.train,
        distribute(model, world, device),
        optimizer,
        loss_scale,
        None if averaged is None else [averaged[names[p]] for p in optimizer.parameters],
        stop,
        pacer,
        find_zeros(optimizer.parameters) if profile.train.keep_zeros else (),
    )
    heartbeat.total_steps = schedule.total_steps
    checkpoints = None
    if metrics is not None:
        checkpoints = CheckpointWriter(
            directory, profile.checkpoint, attempt, lambda name, step, fields: metrics.event(name, step, **fields)
        )
    return Run(
        directory=directory,
        profile=profile,
        world=world,
        device=device,
        attempt=attempt,
        spectra=spectra,
        schedule=schedule,
        model=model,
        optimizer=optimizer,
        loss_scale=loss_scale,
        averaged=averaged,
        update=update,
        progress=Progress(),
        stop=stop,
        heartbeat=heartbeat,
        watchdog=watchdog,
        checkpoints=checkpoints,
        metrics=metrics,
        sampler=sampler,
        pacer=pacer,
    )


def subscribe_exporters(run: Run) -> None:
    """Connect the exporters of the profile to the metrics, once the first step of this attempt is known."""
    if run.metrics is not None:
        open_exporters(run.directory, run.profile, run.metrics, run.progress.step, run.schedule.total_steps)


def device_facts(device: torch.device) -> dict[str, object]:
    """Return the name and the memory of the device on which a run trains."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"device": properties.name, "device_memory_gib": round(properties.total_memory / 2**30, 1)}
    return {"device": f"cpu ({platform.machine()}, {len(os.sched_getaffinity(0))} cores)"}
