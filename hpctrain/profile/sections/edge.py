"""The ``edge`` section: exporting a network to a small device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section


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
    latency_calls: Annotated[int, Field(ge=30)] = 200
    """Largest number of timed calls of each batch size. After 4 seconds no more than 30 are made."""
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
