"""The sections ``train`` and ``checkpoint``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section, Switch

MAX_BATCH_SIZE = 1 << 20
"""Spectra of a micro-batch; larger values are rejected as probable typing errors."""

MOST_PROFILED_STEPS = 100
"""Steps that a trace may hold; ten show what there is to see."""

DEFAULT_WARMUP_STEPS = 500
"""Steps of warm-up of a run that has more steps than this."""


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
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = "fp32"
    """Precision of the network's arithmetic; weights and optimiser stay fp32. tf32 computes convolutions on the
    TensorFloat-32 cores of an A100 or newer, and is fp32 elsewhere. fp16 scales the loss and needs a GPU."""
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
    profile_steps: (
        Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2, examples=[[100, 110]])] | None
    ) = None
    """First and last step that PyTorch's profiler records, 100 at most; `hpctrain trace` says what their time goes to.
    The weights do not change."""
    profile_ranks: Literal["first", "all"] = "first"
    """Ranks that record `profile_steps`."""
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
    """Also keep the checkpoint of the best evaluation."""
    keep_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also keep every checkpoint whose step is a multiple of this; hpctrain never deletes these."""
    asynchronous: Switch = True
    """Write in a thread while training continues. Training always waits for the last checkpoint of an attempt."""
    mirror: PathText | None = None
    """Also copy each checkpoint and the records of the run below this address, such as ``s3://bucket/runs``, or a
    folder of another file system. Credentials come from the environment. A run without its own checkpoints resumes from
    there; ``hpctrain pull`` brings it to another machine."""
    mirror_wait_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """Longest time that the end of an attempt waits for the mirror [s]."""
