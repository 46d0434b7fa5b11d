"""The ``kubernetes`` section of a site: the facts of a Kubernetes cluster that its administrators know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import Line, Section, Switch

DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""Names of objects of Kubernetes."""
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_./-]{0,251}[A-Za-z0-9])?$")]
"""Keys of labels, and names of resources such as ``nvidia.com/gpu``."""
Folder = Annotated[str, Field(pattern=r"^/[^\n]*$")]


class VolumeSection(Section):
    """A volume that every pod mounts."""

    claim: DnsName
    """Name of a PersistentVolumeClaim; with more than one node it must allow many to read and write (RWX)."""
    path: Folder
    """Where pods see it, and this machine too, if it sees it at all."""
    read_only: Switch = False
    """Mount it read-only, such as data."""
    sub_path: Line | None = None
    """Folder of the volume to mount instead of all of it."""


class TolerationSection(Section):
    """A taint of nodes that pods tolerate, in the words of Kubernetes."""

    key: Label | None = None
    """Key of the taint; none means all."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Whether the value has to be equal too."""
    value: Line | None = None
    """Value of the taint, for ``Equal``."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none means all."""


class KubernetesSection(Section):
    """One Kubernetes cluster, as its users may use it."""

    context: Line | None = None
    """Context of kubectl; if unset, the current one."""
    namespace: DnsName = "default"
    """Namespace of the jobs."""
    kind: Literal["auto", "jobset", "trainjob", "pytorchjob", "job"] = "auto"
    """What a run becomes: ``jobset`` (JobSet), ``trainjob`` (Kubeflow Trainer), ``pytorchjob`` (the older Kubeflow
    operator) or ``job`` (nothing has to be installed). ``auto`` asks the cluster, and takes the first that it knows."""
    image: Line | None = None
    """Container image with hpctrain, for profiles that name none (``launch.image``)."""
    image_pull: DnsName | None = None
    """Name of the Secret with the login of the registry of images."""
    service_account: DnsName | None = None
    """Service account of the pods; they get no token of it."""
    env_from: list[DnsName] = []
    """Names of Secrets whose entries become variables of the ranks, such as credentials of a tracker or a mirror."""
    volumes: list[VolumeSection] = []
    """Volumes for runs and data."""
    sees_volumes: Switch = True
    """Whether this machine sees the volumes at the same paths. If not, the files of a run travel in a ConfigMap, and
    ``check`` looks at no data."""
    gpu_resource: Label = "nvidia.com/gpu"
    """Name of the resource that requests a GPU."""
    node_selector: dict[Label, Line] = {}
    """Labels that nodes must have, such as ``nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB``."""
    tolerations: list[TolerationSection] = []
    """Taints that pods tolerate; that of GPUs is always among them."""
    spot_node_selector: dict[Label, Line] = {}
    """Further labels of nodes for jobs with ``launch.spot``."""
    spot_tolerations: list[TolerationSection] = []
    """Further tolerations of jobs with ``launch.spot``."""
    priority_class: DnsName | None = None
    """Priority class of the pods."""
    queue: DnsName | None = None
    """Local queue of Kueue, which then starts the job when all of its pods fit."""
    queue_priority_class: DnsName | None = None
    """Priority class of Kueue."""
    shared_memory_gib: Annotated[float, Field(gt=0, le=1024)] = 8
    """Largest size of ``/dev/shm`` [GiB], which NCCL uses; it counts as memory of the pod."""
    user_id: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """User id in the containers; if unset, that of the image. Root is refused."""
    group_id: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Group id in the containers, and of the files of volumes."""
    labels: dict[Label, Line] = {}
    """Further labels of all objects."""
    annotations: dict[Label, Line] = {}
    """Further annotations of the pods."""
