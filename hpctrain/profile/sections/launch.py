"""The ``launch`` section: the machine, and what the job asks of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpctrain.profile.sections.base import (
    AccessName,
    GroupName,
    Line,
    Name,
    PathText,
    SbatchOptions,
    Section,
    SlurmWord,
    Switch,
    TargetName,
    TimeLimit,
)
from hpctrain.profile.sections.budget import BudgetSection
from hpctrain.profile.targets import AUTO, EngineName


class SlicesSection(Section):
    """Attempts short enough for the holes that larger jobs leave in the queue."""

    shortest: TimeLimit
    """Shortest time that the job takes (``--time-min`` of Slurm): HH:MM:SS, D-HH:MM:SS or minutes."""
    longest: TimeLimit | None = None
    """Longest time of one attempt; if unset, ``launch.time_limit``."""


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
    min_nodes: Annotated[int, Field(ge=1, le=4096)] | None = None
    """On Ray: fewest nodes with which the run goes on while there are no more; the global batch stays. If unset, it
    waits for all its nodes."""
    engine: EngineName | None = None
    """``ray`` on Slurm: the job starts Ray on its nodes, which runs the ranks, so that the job outlives a node that is
    lost. If unset, Slurm runs the ranks."""
    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs on each node; 0 trains on CPUs."""
    ranks_per_node: Annotated[int, Field(ge=1, le=256)] | None = None
    """Ranks (processes) on each node; if unset, one per GPU, or one if there is no GPU. With a multiple of the GPUs,
    ranks share them: slow, but two ranks can be tried where there is one GPU."""
    cpus_per_rank: Annotated[int, Field(ge=1, le=512)] = 8
    """CPU cores of each rank; the training step, reader threads and the checkpoint writer share them."""
    memory_gib_per_node: Annotated[float, Field(gt=0, le=16384)] | None = None
    """Host memory of each node [GiB]; if unset, the partition's default."""
    time_limit: TimeLimit = "24:00:00"
    """Time limit of one attempt: HH:MM:SS, D-HH:MM:SS or minutes. When it is reached, the job requeues itself."""
    slices: SlicesSection | None = None
    """Let Slurm start the job in holes of its queue that are shorter than the time limit."""
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
    image: Line | None = None
    """Container image with hpctrain, where ranks run in containers; if unset, that of the site."""
    instance_type: SlurmWord | None = None
    """Type of the machines of a managed cloud, such as ``ml.g5.12xlarge``."""
    spot: Switch = False
    """Use machines that their owner may take back at any time, at a lower price; the run saves and goes on."""
    budget: BudgetSection | None = None
    """The most that this run may cost; a submission that is expected to cost more is refused, or asks."""
    runs_dir: PathText = "runs"
    """Folder of the run directories; relative to the directory in which you call the command."""
    access: AccessName | None = None
    """Who may use the files of the run: ``private`` nobody else, ``group`` a POSIX group may read and write, ``public``
    everybody may read. If unset, what the site says, else your umask decides."""
    group: GroupName | None = None
    """With ``access: group``: the POSIX group; if unset, that of the site, else the one that new files get there."""

    @property
    def attempt_limit(self) -> str:
        """Longest time of one attempt, HH:MM:SS."""
        return (self.slices.longest if self.slices else None) or self.time_limit

    @property
    def ranks_on_each_node(self) -> int:
        return self.ranks_per_node or max(1, self.gpus_per_node)

    @property
    def ranks_per_gpu(self) -> int:
        """Ranks that share one GPU; 1 where there is none."""
        return max(1, self.ranks_on_each_node // self.gpus_per_node) if self.gpus_per_node else 1

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_on_each_node
