"""One update of the weights from micro-batches; it returns the reduced sums without waiting for the device."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel

from hpctrain.distributed.reduce import start_sum
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.kinds.kind import Kind
from hpctrain.profile.sections.train import TrainSection
from hpctrain.samples.protocols import Batch
from hpctrain.train.adamw import AdamW
from hpctrain.train.arithmetic import AUTOCAST
from hpctrain.train.pacing import FullSpeed, Pacer
from hpctrain.train.peers import PeerClock, Waits
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.scaling import LossScale, scale_and_clip
from hpctrain.train.schedule import Schedule, mix
from hpctrain.train.trace_labels import Label, no_label
from hpctrain.train.zeros import Mask, mask_gradients


@dataclass
class StepResult:
    """The numbers of one step, which the device may still be sending.

    Parameters
    ----------
    step : int
        Number of completed steps, including this one.
    names : list of str
        Names of the sums in `values`.
    values : Tensor, shape (len(names) + 7,), float64, CPU
        The sums over the global batch, then: ranks that ask to stop, ranks interrupted by a user, ranks that are hot,
        ranks that are critically hot, gradient norm, loss scale, whether the gradient was not finite.
    arrived : torch.cuda.Event or None
        Event after which `values` may be read.
    waits : Waits or None
        How long each rank has waited for the others; only at steps that are recorded, and with several ranks.
    """

    step: int
    names: list[str]
    values: torch.Tensor
    arrived: torch.cuda.Event | None
    waits: Waits | None = None

    @functools.cached_property
    def numbers(self) -> list[float]:
        """`values` as Python numbers; this waits for them."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()

    @property
    def sums(self) -> dict[str, float]:
        """Sums over the global batch, by name."""
        return dict(zip(self.names, self.numbers, strict=False))

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the global batch has weight: there is no loss, and the weights were not changed."""
        return self.sums["weight_sum"] == 0

    @property
    def stop(self) -> bool:
        return self.numbers[-7] > 0

    @property
    def interrupted(self) -> bool:
        return self.numbers[-6] > 0

    @property
    def hot(self) -> bool:
        """Whether a rank is hot: all ranks pause until it has cooled down."""
        return self.numbers[-5] > 0

    @property
    def critical(self) -> bool:
        """Whether a rank is too hot to pause: all ranks save and exit."""
        return self.numbers[-4] > 0

    @property
    def gradient_norm(self) -> float:
        return self.numbers[-3]

    @property
    def loss_scale(self) -> float:
        return self.numbers[-2]

    @property
    def skipped(self) -> bool:
        """Whether the gradient was not finite and the weights were not changed."""
        return self.numbers[-1] > 0


class UpdateStep:
    """Compute the gradient of a global batch and apply it.

    Parameters
    ----------
    world : World
    schedule : Schedule
    train : TrainSection
    model : Module
        The network, wrapped in DistributedDataParallel where there are several ranks.
    optimizer : AdamW
        Optimizer; it does not change the weights if the gradient is not finite, without waiting for the host.
    loss_scale : LossScale
    ema : list of Tensor or None
        Moving averages of the parameters, in their order.
    stop : StopRequest
        Stop request; its flags are reduced together with the sums.
    pacer : Pacer or FullSpeed
        Pauses this rank between micro-batches; its flags are reduced with the sums, too.
    prepare : callable
        Cleans and normalises a batch on its device.
    augment : callable or None
        Changes a prepared batch at random.
    kind : Kind
        Counts bad values.
    zeros : sequence of (Parameter, Tensor)
        Weights that stay 0, from :func:`~hpctrain.train.zeros.find_zeros`.
    weight_per_sample : float
        About how much one sample adds to ``weight_sum``.

    Attributes
    ----------
    peers : PeerClock or None
        Measures how long the ranks wait for each other; None with one rank.
    label : callable
        Names the parts of a step, while the profiler records.
    """

    def __init__(
        self,
        world: World,
        schedule: Schedule,
        train: TrainSection,
        model: torch.nn.Module,
        optimizer: AdamW,
        loss_scale: LossScale,
        ema: list[torch.Tensor] | None,
        stop: StopRequest,
        pacer: Pacer | FullSpeed,
        prepare: Callable[[Batch], Batch],
        augment: Callable[[Batch], Batch] | None,
        kind: Kind,
        zeros: Sequence[Mask] = (),
        weight_per_sample: float = 1.0,
    ) -> None:
        self._world, self._schedule, self._train = world, schedule, train
        self._clean, self._augment, self._kind = prepare, augment, kind
        self._model, self._optimizer, self._loss_scale, self._ema, self._stop = model, optimizer, loss_scale, ema, stop
        self._pacer, self._zeros = pacer, zeros
        self._parameters = optimizer.parameters
        self._accumulation = schedule.accumulation(world.world_size)
        self._device = self._parameters[0].device
        # A sum over all weights would overflow fp16, so it is divided by about their sum; `_apply` undoes this.
        self._presum = 1.0 / (schedule.micro_batch * weight_per_sample)
        self._names: list[str] = []
        self._no_flags = torch.zeros(4, dtype=torch.float64, device=self._device)
        self._dtype = AUTOCAST.get(train.precision)
        self.peers = PeerClock(world, self._device) if world.world_size > 1 else None
        self.label: Label = no_label

    def warm_up(self, empty: Batch) -> None:
        """Run a batch of padding rows through forward, backward and reduction, and discard the result.

        DistributedDataParallel regroups its gradients after its first backward pass, and with three ranks or more the
        grouping decides the order of summation. Without this warm-up, the first step of a resumed attempt would differ
        in the last bit from the same step of an attempt that never stopped.
        """
        _, loss = self._forward(self._clean(empty.to(self._device)), 0)
        loss.backward()
        self._optimizer.zero_grad()

    def __call__(self, step: int, batches: Iterator[Batch]) -> StepResult:
        """Do step ``step + 1`` with the next micro-batches of this rank."""
        self._optimizer.zero_grad()
        totals: torch.Tensor | None = None
        for index in range(self._accumulation):
            is_last = index + 1 == self._accumulation
            micro = index * self._world.world_size + self._world.rank
            self._pacer.rest()
            with self.label("loader"):
                batch = next(batches)
            with self.label("prepare"):
                batch = self._prepare(batch, step, micro)
            # Gradients are reduced once per step, in the backward pass of the last micro-batch.
            with contextlib.nullcontext() if is_last else self._no_sync():
                with self.label("forward"):
                    sums, loss = self._forward(batch, step)
                totals = sums if totals is None else totals + sums
                if is_last:
                    totals, waits = self._exchange(step, totals, loss)
                else:
                    with self.label("backward"):
                        loss.backward()
        with self.label("optimiser"):
            return self._apply(step, totals, waits)

    def _exchange(self, step: int, totals: torch.Tensor, loss: torch.Tensor) -> tuple[torch.Tensor, Waits | None]:
        """Sum gradients and `totals` over ranks in the backward pass of the last micro-batch; return the sums."""
        totals, waits = torch.cat([totals, self._flags()]), None
        work = start_sum(self._world, totals)
        if self.peers is not None:
            waits = self.peers.start_sum() if self._schedule.record_due(step + 1) else None
            self.peers.watch(loss)
        with self.label("backward"):
            loss.backward()
        if work is not None:
            with self.label("exchange"):
                work.wait()
                if waits is not None:
                    waits.to_host()
            self.peers.arrived()
        return totals, waits

    def _prepare(self, batch: Batch, step: int, micro: int) -> Batch:
        # One seed per micro-batch: noise, dropout and other draws do not depend on which rank computes it.
        seed_random_numbers(self._device, mix(self._train.seed, step, micro))
        if self._device.type != "cpu":
            batch = batch.to(self._device)
        batch = self._clean(batch)
        return batch if self._augment is None else self._augment(batch)

    def _flags(self) -> torch.Tensor:
        """Return whether this rank asks to stop or to pause; without such a request nothing is copied to the device."""
        pace = self._pacer.flags()
        flags = (*self._stop.flags(), pace.hot, pace.critical)
        return torch.tensor(flags, dtype=torch.float64, device=self._device) if any(flags) else self._no_flags

    def _forward(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._dtype is None:
            sums = self._model(batch, step)
        else:
            with torch.autocast(self._device.type, dtype=self._dtype):
                sums = self._model(batch, step)
        self._names = [*sums, *self._kind.bad_sums]
        with torch.no_grad():
            packed = torch.cat([torch.stack(list(sums.values())).double(), self._kind.count_bad(batch)])
        scale = self._presum * self._loss_scale.value if self._loss_scale.enabled else self._presum
        return packed, sums["loss_sum"] * scale

    def _no_sync(self) -> contextlib.AbstractContextManager[None]:
        if isinstance(self._model, DistributedDataParallel):
            return self._model.no_sync()
        return contextlib.nullcontext()

    @torch.no_grad()
    def _apply(self, step: int, totals: torch.Tensor, waits: Waits | None) -> StepResult:
        # If no sample has weight, the factor is infinite and the gradient NaN, so the weights do not change.
        weight = totals[self._names.index("weight_sum")]
        # DistributedDataParallel has divided by the world size.
        factor = (self._world.world_size / self._presum / weight).float()
        used_scale = self._loss_scale.value
        if self._loss_scale.enabled:
            used_scale = used_scale.clone()
            factor = factor / used_scale
        mask_gradients(self._zeros)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm, nonfinite = scale_and_clip(gradients, factor, self._train.clip_norm)
        self._optimizer.step(self._schedule.learning_rate(step), nonfinite)
        self._loss_scale.update(nonfinite)
        if self._ema is not None:
            torch._foreach_lerp_(self._ema, self._parameters, 1.0 - self._train.ema_decay)
        return self._send(step + 1, self._names, torch.cat([totals, torch.stack([norm, used_scale, nonfinite])]), waits)

    @staticmethod
    def _send(step: int, names: list[str], values: torch.Tensor, waits: Waits | None) -> StepResult:
        if not values.is_cuda:
            return StepResult(step, names, values, None, waits)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return StepResult(step, names, host, arrived, waits)
