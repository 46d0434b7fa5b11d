"""The keys of a profile: one typed section for each stage from spectra to report.

A YAML key, the field here, the heading in docs/profile.md and the path in an error message are the same word. The text
below a field is its description in the docs, with its unit. The limits of a single value are here; rules that need two
sections, the machine or the disk are in ``check.py``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hpctrain.plugins import TARGETS
from hpctrain.profile.targets import AUTO, MODULE_PATTERN, is_target_name
from hpctrain.profile.update import UpdateShape

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names are used in paths, ``#SBATCH`` lines and shells, so characters that any of these interpret are refused."""

SLURM_WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,:+*=@/&|\[\]()-]{0,254}$"
"""Values of Slurm options (partitions, constraints, node lists): no blank, quote, dollar or newline."""

MAX_TIME_LIMIT_S = 10_000 * 3600
"""Time limits have at most four digits of hours, which is more than a year; no queue allows more."""

MAX_BATCH_SIZE = 1 << 20
"""Spectra of a micro-batch; larger values are rejected as probable typing errors."""

DEFAULT_READER_THREADS = 2
"""Reader threads of a rank that has enough cores."""

DEFAULT_FAMILY = "spectral_vae"
"""Family of a profile that names none."""

NETWORK_SHAPE = "the weights of the checkpoint have the shapes of this network"
"""Reason why a resumed run cannot change a key that sizes the network."""

SAMPLE_ORDER = "which samples each step sees depends on it"
"""Reason why a resumed run cannot change a key that decides the order."""

DEFAULT_WARMUP_STEPS = 500
"""Steps of warm-up of a run that has more steps than this."""

_TIME_LIMIT = re.compile(r"^(?:(?P<days>\d{1,3})-)?(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?$")


def parse_time_limit_s(value: str | int) -> int:
    """Return a Slurm time limit in seconds.

    Parameters
    ----------
    value : str or int
        ``HH:MM:SS``, ``HH:MM``, ``D-HH:MM:SS``, or a whole number of minutes. Unlike sbatch, ``HH:MM`` is hours and
        minutes here: sbatch reads it as minutes and seconds, which nobody expects.

    Raises
    ------
    ValueError
        The value is not such a time, or is zero.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value * 60
    else:
        match = _TIME_LIMIT.match(str(value))
        if not match:
            raise ValueError("is not a time; write HH:MM:SS or D-HH:MM:SS (such as 24:00:00), or minutes")
        days = int(match["days"] or 0)
        if days and int(match["hours"]) > 23:
            raise ValueError("has more than 23 hours after the days; write D-HH:MM:SS")
        seconds = ((days * 24 + int(match["hours"])) * 60 + int(match["minutes"])) * 60 + int(match["seconds"] or 0)
    if not 0 < seconds < MAX_TIME_LIMIT_S:
        raise ValueError("must be longer than zero and shorter than 10000 hours")
    return seconds


def _time_limit(value: Any) -> str:
    seconds = parse_time_limit_s(value)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _target_name(value: str) -> str:
    if not is_target_name(value):
        raise PydanticCustomError("literal_error", "is not the name of a target")
    return value


def _one_line(value: str) -> str:
    if any(ord(character) < 32 for character in value):
        raise ValueError("must be one line without control characters")
    return value


def _sbatch_value(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value):
        raise ValueError("must be one line without control characters: it becomes one line of the job script")
    if "\\" in value:
        raise ValueError("holds a backslash, which Slurm would drop when it reads the job script; write it without")
    return value


def _path(value: str) -> str:
    if value.startswith("~"):
        raise ValueError("starts with ~, which only a shell expands; write ${HOME} instead")
    return _one_line(value)


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError("must rise from the shorter to the longer wavelength")
    return value


def _switch(value: Any) -> Any:
    """Accept the yes, no, on, off of YAML 1.1 for a switch, and only there."""
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
SlurmWord = Annotated[str, Field(pattern=SLURM_WORD_PATTERN)]
TimeLimit = Annotated[str, BeforeValidator(_time_limit), Field(json_schema_extra={"type": ["string", "integer"]})]
TargetName = Annotated[
    str,
    AfterValidator(_target_name),
    Field(
        json_schema_extra={
            "anyOf": [{"enum": [AUTO, *TARGETS], "type": "string"}, {"pattern": MODULE_PATTERN, "type": "string"}]
        }
    ),
]
WavelengthRange = Annotated[
    tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
    Field(strict=False),  # YAML has lists, no tuples
    AfterValidator(_rising),
]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]
SbatchValue = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_sbatch_value)]
SbatchOptions = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], SbatchValue | int | bool]
Line = Annotated[str, AfterValidator(_one_line)]
Switch = Annotated[bool, BeforeValidator(_switch)]


class Section(BaseModel):
    """A part of the profile. Unknown keys are errors, and no value is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LaunchSection(Section):
    """The machine on which the job runs, and its requests to Slurm."""

    cluster: TargetName = AUTO
    """Where the job runs; ``auto`` chooses Slurm if ``sbatch`` is on the PATH, else this machine."""
    site: Name | None = None
    """Name of a file in ``slurm/sites/``: partitions, limits, modules, NCCL settings of a cluster."""
    partition: SlurmWord | None = None
    """Slurm partition; if unset, the default of the site file or of the cluster."""
    account: SlurmWord | None = None
    """Slurm account to charge."""
    qos: SlurmWord | None = None
    """Slurm quality of service."""
    constraint: SlurmWord | None = None
    """Node features, such as ``a100&hbm80g``."""
    reservation: SlurmWord | None = None
    """Slurm reservation."""
    exclude: list[SlurmWord] = []
    """Nodes that the job must not use."""
    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Number of nodes."""
    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs on each node; 0 trains on CPUs."""
    ranks_per_node: Annotated[int, Field(ge=1, le=256)] | None = None
    """Ranks (processes) on each node; if unset, one per GPU, or one if there is no GPU."""
    cpus_per_rank: Annotated[int, Field(ge=1, le=512)] = 8
    """CPU cores of each rank; the training step, reader threads and the checkpoint writer share them."""
    memory_gib_per_node: Annotated[float, Field(gt=0, le=16384)] | None = None
    """Host memory of each node [GiB]; if unset, the partition's default."""
    time_limit: TimeLimit = "24:00:00"
    """Time limit of one attempt: HH:MM:SS, D-HH:MM:SS or minutes. When it is reached, the job requeues itself."""
    signal_lead_s: Annotated[int, Field(ge=0, le=65535)] = 180
    """Slurm warns the ranks this long before the time limit [s]; its signal may be 30 s late."""
    requeue: Switch = True
    """Requeue the job if it was stopped before its last step."""
    max_attempts: Annotated[int, Field(ge=1, le=100000)] = 500
    """Largest number of attempts; the job is not requeued after them."""
    max_attempts_without_progress: Annotated[int, Field(ge=1, le=1000)] = 3
    """Largest number of attempts in a row without a new checkpoint; the job is not requeued after them."""
    sbatch: SbatchOptions = {}
    """Any other sbatch option by its long name, such as ``gres-flags: enforce-binding`` or ``comment: "my run"``; true
    sets a flag without a value. Options that have a key of their own, or that the launcher needs, are refused."""
    runs_dir: PathText = "runs"
    """Folder of the run directories; relative to the directory in which you call the command."""

    @property
    def ranks_on_each_node(self) -> int:
        return self.ranks_per_node or max(1, self.gpus_per_node)

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_on_each_node


class SplitSection(Section):
    """The objects to train on and the objects to hold out. A hash of the object id decides, so an object never changes
    sides."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of objects held out for evaluation during training."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of objects kept for a final test; neither training nor evaluation uses them."""
    salt: str = "hpctrain"
    """Any text; a different text gives a different split."""


class DataSection(Section):
    """The data to use, and how to read them: what all kinds of data have in common."""

    fixed: ClassVar[Mapping[str, str]] = {
        "simulate": "these data were made before the first step",
        "split": "samples that were held out so far would be trained on",
        "shuffle_window": SAMPLE_ORDER,
    }
    """Key, or section, to the reason why a resumed run cannot change it; a kind adds its own."""

    files: Annotated[list[PathText], Field(min_length=1)]
    """HDF5 files or glob patterns; several make one set. Paths are relative to the directory in which you call the
    command. With `stage` and ``hpctrain[remote]`` also every address that fsspec supports, such as ``https://...`` and
    ``s3://bucket/*.h5``; credentials come from the environment."""
    stage: PathText | None = None
    """Folder on a disk of the compute node, such as ``${TMPDIR}``. The job copies the files there before training, once
    per node. Variables have their values on the compute node."""
    stage_required: Switch = False
    """End the job if files cannot be staged (disk full, no permission, a failing disk), instead of reading the
    originals. Always on for remote files."""
    cache: Literal["none", "ram"] = "none"
    """``ram`` decodes the training and validation spectra into memory before the first step, one copy per node;
    compressed files are then shuffled as a whole too. The memory is freed however the job ends."""
    simulate: None = None
    """Not for this kind of data."""
    split: SplitSection = SplitSection()
    reader_threads: Annotated[int, Field(ge=0, le=64)] | None = None
    """Threads that prefetch batches; 0 reads in the training loop. If unset: 2, or 1 where `launch.cpus_per_rank` is 1.
    The batches are the same for any number."""
    prefetch_batches: Annotated[int, Field(ge=1, le=64)] = 4
    """Micro-batches that each rank prefetches."""
    shuffle_window: Annotated[int, Field(ge=1)] = 4096
    """Number of spectra of a window in which compressed files are shuffled; each rank keeps two decoded windows in
    memory. Uncompressed files are shuffled as a whole."""

    @property
    def max_samples(self) -> int | None:
        """Largest number of training samples; None for all."""
        return None

    @property
    def refuses_bad_values(self) -> bool:
        """Whether a bad value in the data ends the run, instead of being masked and counted."""
        return False

    def unwritten_keys(self) -> list[tuple[str, ...]]:
        """Return the keys whose defaults the run's own profile must not hold, relative to this section."""
        return []

    @property
    def card_entries(self) -> dict[str, Any]:
        """Entries of the model's card that say how to prepare samples for the model, as plain JSON values."""
        return {}


class ModelSection(Section):
    """The model: what all families have in common."""

    fixed: ClassVar[Mapping[str, str]] = {"family": NETWORK_SHAPE}
    """Key to the reason why a resumed run cannot change it; a family adds its own."""
    pinned: ClassVar[tuple[str, ...]] = ()
    """Keys that the first attempt computes from the data where they are not set; they stay the same afterwards."""

    family: Annotated[str, Field(min_length=1)] = DEFAULT_FAMILY
    """Name of the model family, or the dotted name of a module of yours that defines one."""


class EarlyStoppingSection(Section):
    """End the run when the validation loss no longer falls."""

    patience: Annotated[int, Field(ge=1)] = 10
    """Number of evaluations in a row without an improvement after which the run ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """A smaller decrease of the loss does not count as an improvement."""


class TrainSection(Section):
    """Optimisation: batches, learning rate, precision."""

    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)] | Literal["auto"] = 128
    """Spectra per rank and micro-batch. With ``auto``, the first attempt finds the largest number that fits into the
    memory of the device and divides `global_batch`, and writes it into the run's own profile."""
    accumulation: Annotated[int, Field(ge=1, le=65536)] = 1
    """Micro-batches per rank and step. The global batch is batch_size x accumulation x ranks."""
    global_batch: Annotated[int, Field(ge=1, le=2**32)] | None = None
    """Spectra per step, over all ranks; it then determines `accumulation`. If unset, batch_size x accumulation x
    ranks."""
    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the training spectra."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Largest number of steps; the run ends after them if `epochs` would take longer."""
    learning_rate: Annotated[float, Field(gt=0, lt=10)] = 1e-3
    """Peak learning rate of AdamW."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up. If unset: 500, or a tenth of the run where it has 500 steps or fewer; the run's own
    profile then holds the number."""
    final_learning_rate: Annotated[float, Field(ge=0, lt=10)] = 1e-5
    """Learning rate at the end of the cosine."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Decoupled weight decay; not applied to biases and normalisation weights."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's mean of gradients."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's mean of squared gradients."""
    adam_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """AdamW's epsilon; with fp16 1e-4 to 1e-6 is safer."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null never clips."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the network's arithmetic; weights and optimiser stay fp32. fp16 scales the loss and needs a GPU."""
    gradient_checkpointing: Switch = False
    """Recompute activations in the backward pass; this needs less memory and about a third more time."""
    compile: Switch = False
    """Compile the network with torch.compile: minutes at the start of each attempt, then faster steps."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights with this decay, and evaluate and export the average."""
    early_stopping: EarlyStoppingSection | None = None
    """Stop when the validation loss no longer falls; if unset, train to the last step."""
    evaluate_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between evaluations on the held-out split; if unset, once per epoch."""
    log_every_steps: Annotated[int, Field(ge=1)] = 10
    """Steps between records in metrics.jsonl."""
    deterministic: Switch = True
    """On a GPU, use only algorithms that give the same bits each time. Without it, a resume is exact up to rounding."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of weights, sample order, dropout, latent noise and augmentation."""
    init_from: PathText | None = None
    """Start from the weights of this run directory, bundle or model.safetensors, or of the run with this name, run id
    or job id in `launch.runs_dir`. The run also takes the rest-frame grid from there, unless `model` sets one."""
    freeze: list[Annotated[str, Field(min_length=1)]] = []
    """Weights that are not trained, by name; ``*`` matches anything, such as ``encoder.blocks.*``. A pattern that
    matches nothing ends the run and lists the names."""
    keep_zeros: Switch = False
    """Weights that are 0 in `init_from` stay 0: a pruned network stays pruned."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """``auto`` chooses the GPU if there is one."""

    def warmup(self, total_steps: int) -> int:
        """Return the steps of warm-up of a run of `total_steps`: the profile's number, else the default."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return DEFAULT_WARMUP_STEPS if total_steps > DEFAULT_WARMUP_STEPS else total_steps // 10


class CheckpointSection(Section):
    """How often to save the state, and which checkpoints to keep."""

    every_steps: Annotated[int, Field(ge=1)] = 1000
    """Steps between checkpoints."""
    keep_last: Annotated[int, Field(ge=1)] = 5
    """Number of newest checkpoints to keep."""
    keep_best: Switch = True
    """Also keep the checkpoint with the lowest validation loss."""
    keep_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also keep every checkpoint whose step is a multiple of this; hpctrain never deletes these."""
    asynchronous: Switch = True
    """Write in a thread while training continues. Training always waits for the last checkpoint of an attempt."""


Artifacts = list[Literal["model", "report", "provenance"]]


class MlflowSection(Section):
    """A copy of the run on an MLflow server: one tracked run over all attempts. ``mlflow: {}`` takes all defaults.

    Credentials come from the environment: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN. Needs ``hpctrain[mlflow]``.
    """

    tracking_uri: Line | None = None
    """Address of the server, such as ``https://mlflow.example.org``; if unset, MLFLOW_TRACKING_URI of the
    environment."""
    experiment: Line | None = None
    """Experiment that the run belongs to; if unset, the name of the profile. It is made if there is none."""
    artifacts: Artifacts = ["model", "report", "provenance"]
    """What to upload at the end of the run. ``provenance`` is provenance.json, which holds uncommitted changes of your
    code, and the profile."""


class WandbSection(Section):
    """A copy of the run in Weights & Biases: one run over all attempts. ``wandb: {}`` takes all defaults.

    The key comes from the environment (WANDB_API_KEY) or from ``wandb login``. Needs ``hpctrain[wandb]``.
    """

    project: Line | None = None
    """Project that the run belongs to; if unset, the name of the profile."""
    entity: Line | None = None
    """Team or user that the project belongs to; if unset, the default of your account."""
    mode: Literal["online", "offline"] = "online"
    """``offline`` needs no network: it writes files into the ``wandb`` folder of the run directory, and ``wandb sync``
    uploads them later."""
    artifacts: Artifacts = ["model", "report", "provenance"]
    """As of `track.mlflow.artifacts`."""


class TrackSection(Section):
    """Reports of the progress besides metrics.jsonl."""

    tensorboard: Switch = True
    """Write TensorBoard event files."""
    histogram_every_steps: Annotated[int, Field(ge=1)] | None = 500
    """Steps between histograms of weights and gradients; null writes none."""
    figure_every_steps: Annotated[int, Field(ge=1)] | None = 500
    """Steps between figures of reconstructions, drawn at the next evaluation; null draws none."""
    num_figures: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of held-out spectra in these figures."""
    mlflow: MlflowSection | None = None
    """Send the run to an MLflow server while it trains; null sends nothing."""
    wandb: WandbSection | None = None
    """Send the run to Weights & Biases while it trains; null sends nothing."""


class MonitorSection(Section):
    """Heartbeat, sensors, and limits of temperature and power."""

    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Interval at which each rank writes its heartbeat [s]."""
    hang_timeout_s: Annotated[float, Field(gt=0, le=86400)] | None = 1800.0
    """Longest time without progress of a rank [s]; then it writes its stacks to the log and exits, and the job is
    requeued."""
    sample_interval_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Interval at which a thread reads the sensors [s]: GPU, power, temperatures, memory, CPU. A reading takes one or
    two milliseconds."""
    thermal_limit_c: Annotated[float, Field(ge=30, le=120)] | None = None
    """Temperature [°C] above which the run slows down; 7 °C above this it pauses, 15 °C above (or at the board's own
    critical point) it saves and exits. If unset: a Jetson's own trip points, no limit for other GPUs."""
    power_limit_w: Annotated[float, Field(gt=0, le=100000)] | None = None
    """Limit of the power of a Jetson's module, else of each rank's GPU [W]. The run slows down at 90 % of it. If unset,
    there is no limit."""
    dwell_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Shortest time at one pace before the run speeds up again [s]; it prevents frequent changes of pace."""
    prometheus_textfile: PathText | None = None
    """File ending in ``.prom`` for the textfile collector of node_exporter; ``%r`` becomes the run's name and id. Needs
    ``hpctrain[prometheus]``."""
    prometheus_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Port on rank 0's node that serves Prometheus, readable by anybody who reaches it. Needs
    ``hpctrain[prometheus]``."""


class GatesSection(Section):
    """How much accuracy an export may lose, overall and in each bin of signal to noise ratio and redshift. A gate that
    is null is not checked.

    "Before" is the trained network in PyTorch and float32, "after" the exported one in the runtime of the device.
    """

    chi2: Annotated[float, Field(ge=0)] | None = 0.02
    """Largest relative rise of the median reduced chi-square of reconstructions."""
    latent_error: Annotated[float, Field(gt=0)] | None = 0.02
    """Largest rms error of the latent vectors, in units of their standard deviation over the held-out spectra. A pruned
    network is compared with itself before export: after fine-tuning the latent axes are no longer comparable."""
    anomaly_rank: Annotated[float, Field(ge=-1, le=1)] | None = 0.99
    """Lowest Spearman correlation of anomaly scores before and after. A pruned network is compared with itself before
    export, as for `latent_error`."""
    pruned_anomaly_rank: Annotated[float, Field(ge=-1, le=1)] | None = None
    """The same correlation with the network before pruning. Off by default, because the latent axes differ. `chi2` and
    `class_f1` are always compared with the network before pruning."""
    class_f1: Annotated[float, Field(ge=0, le=1)] | None = 0.02
    """Largest drop of the macro-averaged F1 score of `class_column`, predicted from the nearest neighbours among the
    latent vectors of training spectra."""
    min_spectra: Annotated[int, Field(ge=2)] = 20
    """Bins with fewer spectra are listed, but not checked."""


class EdgeSection(Section):
    """How ``hpctrain export`` adapts the trained network to a small device, and the gates that it must pass."""

    export_at_end: Literal["fp32", "fp16", "int8"] | None = None
    """At the end of the run, write a bundle of this precision into its ``export`` folder, as ``hpctrain export`` does.
    The run counts as finished even if the bundle fails its gates."""
    gates: GatesSection = GatesSection()
    class_column: PathText | None = None
    """Column of the spectra files with the class of each object (text or integer); if unset, classes are not
    checked."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest 95th percentile of the time from one spectrum in memory to its row of the catalogue [ms], on the
    exporting machine; for a TensorRT engine, trtexec's measurement plus the preparation here. If unset, not checked."""
    latency_batch: Annotated[int, Field(ge=1, le=65536)] = 64
    """Batch size of the second latency measurement, and the largest batch of a TensorRT engine."""
    snr_edges: list[float] | None = None
    """Inner edges of the bins in median signal to noise ratio per pixel, in rising order; if unset, quartiles."""
    redshift_edges: list[float] | None = None
    """Inner edges of the bins in redshift, in rising order; if unset, quartiles."""
    max_held_out: Annotated[int, Field(ge=20)] = 4096
    """Largest number of held-out spectra for the gates: from the test split if there is one, else from the validation
    split."""
    calibration_spectra: Annotated[int, Field(ge=8)] = 256
    """Number of training spectra that calibrate INT8 and rank filters for pruning; they are spread over signal to noise
    ratio and redshift."""
    prune_rounds: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of rounds of pruning and training."""
    finetune_steps: Annotated[int, Field(ge=0)] = 500
    """Steps of training after each pruning; 0 does not train."""
    finetune_learning_rate: Annotated[float, Field(gt=0, lt=10)] | None = None
    """Peak learning rate of the steps after pruning; if unset, a fifth of train.learning_rate."""


class Profile(Section):
    """One training run.

    The class of a profile has the `model` section of its family and the `data` section of the family's kind of data:
    :func:`hpctrain.profile.families.profile_class` makes it.
    """

    name: Name
    """Name of the run's folder and of the Slurm job: letters, digits, dot, dash, underscore."""
    description: Line = ""
    """One line that the report shows."""
    platform: Name | None = None
    """The device, such as ``a100-40``, used to check memory; ``hpctrain platforms`` lists the names."""
    launch: LaunchSection = LaunchSection()
    data: DataSection
    model: ModelSection
    train: TrainSection = TrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    track: TrackSection = TrackSection()
    monitor: MonitorSection = MonitorSection()
    edge: EdgeSection = EdgeSection()

    @property
    def update_shape(self) -> UpdateShape:
        """What one update of the weights is made of."""
        train, ranks = self.train, self.launch.world_size
        micro_batch = None if train.batch_size == "auto" else train.batch_size
        # With auto the rules ask for a global batch; the one that is taken here only keeps them going.
        product = (micro_batch or 1) * train.accumulation * ranks
        return UpdateShape(train.global_batch or product, micro_batch, ranks)

    @property
    def global_batch(self) -> int:
        """Samples per step, over all ranks and micro-batches."""
        return self.update_shape.global_batch

    @property
    def accumulation(self) -> int:
        """Micro-batches per rank and step; 1 while the size of a micro-batch (``auto``) is not known yet."""
        return self.update_shape.accumulation

    @property
    def reader_threads(self) -> int:
        """Threads of each rank that prefetch batches: the profile's number, else as many as its cores allow."""
        if self.data.reader_threads is not None:
            return self.data.reader_threads
        return min(DEFAULT_READER_THREADS, self.launch.cpus_per_rank)

    def with_update_shape(self, shape: UpdateShape) -> Profile:
        """Return the profile with other sizes of an update; the number of ranks stays that of ``launch``."""
        return self.model_copy(update={"train": self.train.model_copy(update=shape.train_keys())})
