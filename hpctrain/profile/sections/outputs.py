"""The sections ``track`` and ``monitor``: what reports the progress, and what reads the sensors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.profile.sections.base import Line, PathText, Section, Switch

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
    alerts: AlertsSection = AlertsSection()
    """What is worth an alert while the run goes, and who hears it."""
