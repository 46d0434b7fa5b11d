"""The same network trained by Lightning and by Accelerate, on batches that are on the device already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.workload import synchronise
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.profile.families import family_of
from hpctrain.samples.protocols import Batch
from hpctrain.train.run import Run

_WARM_UP = 10
_LIGHTNING = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_ACCELERATE = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


def _network(run: Run) -> torch.nn.Module:
    return family_of(run.profile).network(run.data.section, run.data.facts)


def _adamw(model: torch.nn.Module, run: Run, fused: bool = True) -> torch.optim.Optimizer:
    train = run.profile.train
    return torch.optim.AdamW(model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay, fused=fused)


def _loss(model: torch.nn.Module, batch: Batch, run: Run) -> torch.Tensor:
    sums = model(normalise(batch, run.profile.data.normalise), 0)
    return sums["loss_sum"] / sums["weight_sum"].clamp(min=1.0)


class _Clock:
    """Batches that note the time when the warm-up is over."""

    def __init__(self, kept: list[Batch], steps: int, device: torch.device) -> None:
        self._kept, self._count, self._device, self.started_s = kept, _WARM_UP + steps, device, 0.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in zip(range(self._count), itertools.cycle(self._kept), strict=False):
            if number == _WARM_UP:
                synchronise(self._device)
                self.started_s = time.perf_counter()
            yield batch

    def step_s(self) -> float:
        """Return the time of a step since the warm-up [s]."""
        synchronise(self._device)
        return (time.perf_counter() - self.started_s) / (self._count - _WARM_UP)


def lightning(run: Run, kept: list[Batch], steps: int) -> float:
    """Return the time of a step under Lightning's Trainer, without its logs, bars and checkpoints [s]."""
    import lightning
    from lightning.pytorch import callbacks

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = _network(run)

        def training_step(self, batch: Batch, _: int) -> torch.Tensor:
            return _loss(self.network, batch, run)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            # Lightning refuses to clip the gradients of a fused optimiser in mixed precision.
            return _adamw(self.network, run, fused=precision == "32-true")

    class End(callbacks.Callback):
        step_s = 0.0

        def on_train_epoch_end(self, *_: object) -> None:
            self.step_s = clock.step_s()

    precision = _LIGHTNING[run.profile.train.precision]
    clock, end = _Clock(kept, steps, run.device), End()
    trainer = lightning.Trainer(
        accelerator="gpu" if run.device.type == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_epochs=1,
        gradient_clip_val=run.profile.train.clip_norm,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[end],
    )
    trainer.fit(Module(), clock)
    return end.step_s


def accelerate(run: Run, kept: list[Batch], steps: int) -> float:
    """Return the time of a step of a loop with Accelerate [s]."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the precision of the one before
    accelerator = Accelerator(mixed_precision=_ACCELERATE[run.profile.train.precision], cpu=run.device.type == "cpu")
    model = _network(run)
    model, optimizer = accelerator.prepare(model, _adamw(model, run))
    clock = _Clock(kept, steps, run.device)
    for batch in clock:
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(_loss(model, batch, run))
        accelerator.clip_grad_norm_(model.parameters(), run.profile.train.clip_norm)
        optimizer.step()
    return clock.step_s()


PEERS: dict[str, Callable[[Run, list[Batch], int], float]] = {"Lightning": lightning, "Accelerate": accelerate}
