"""The contract of a model family: what learns. No torch here.

A family is an instance of a subclass of :class:`Family`, named ``FAMILY`` in its module. Check and report read it on a
login node, so its module imports torch only inside :meth:`Family.network` and the methods that the trainer calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from hpctrain.errors import DataError
from hpctrain.profile.schema import ModelSection

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure

    from hpctrain.profile.judge import Judge
    from hpctrain.samples.protocols import Batch, Facts, Samples


class NoResultsError(DataError):
    """A finished model has nothing to say about the held-out samples; the model itself is good."""


@dataclass(frozen=True)
class Objective:
    """The number that decides which evaluation is the best one.

    Parameters
    ----------
    metric : str
        Name among the metrics of an evaluation.
    lower_is_better : bool
    """

    metric: str = "loss"
    lower_is_better: bool = True

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Return whether `value` is better than `best` by more than `min_delta`."""
        if best is None:
            return True
        return value < best - min_delta if self.lower_is_better else value > best + min_delta


class GradientNetwork(Protocol):
    """What the trainer asks of a network that learns by gradients, beyond :class:`torch.nn.Module`.

    Optional: ``enable_gradient_checkpointing()``, and ``weight_per_sample``, about how much ``weight_sum`` one sample
    adds (1 by default); it keeps sums within the range of float16.
    """

    def __call__(self, batch: Batch, step: int = 0) -> dict[str, torch.Tensor]:
        """Return sums over the batch, each of shape (): ``loss_sum``, ``weight_sum``, ``num_samples`` and others.

        Sums rather than means, so that a batch on several ranks and in micro-batches has one loss: ``loss_sum /
        weight_sum`` of all. Padding rows must add exactly 0 to each.
        """

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return readable numbers for sums over a global batch or an evaluation: ``loss`` and others."""

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the columns of a catalogue of predictions, each (N, ...), without random numbers."""


class RoundsModel(Protocol):
    """What the trainer asks of a model that learns in rounds: step k is k rounds.

    A round is a function of its number, the seed and the samples; so a resumed run continues exactly.
    """

    def do_round(
        self, number: int, rows: np.ndarray, read: Callable[[np.ndarray], Iterator[Batch]], seed: int
    ) -> dict[str, float]:
        """Do one round; return sums over all training samples as a network does.

        Parameters
        ----------
        number : int
            Number of the round, from 0.
        rows : ndarray, shape (n,), int64
            Training rows.
        read : callable
            Yields prepared batches of the rows that it is given.
        seed : int
            Seed of this round.
        """

    def score(self, batch: Batch) -> dict[str, float]:
        """Return sums over a prepared batch of held-out samples, as a network does; padding rows add 0."""

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return readable numbers for sums: ``loss`` and others."""

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return the columns of a catalogue of predictions, each (N, ...)."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the whole state as plain arrays."""

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a state."""


@dataclass(frozen=True)
class Curve:
    """A small figure of the report that shows one metric of training and evaluation.

    Parameters
    ----------
    metric : str
        Name in ``metrics.jsonl``.
    title : str
    ideal : float, optional
        Value that a perfect model has, drawn as a line.
    log : bool
        Whether the axis is logarithmic.
    """

    metric: str
    title: str
    ideal: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Panel:
    """A section of the report with figures of the family's own.

    Parameters
    ----------
    key, title : str
        Identifier in the page and heading.
    needs : tuple of str
        Files of ``results/`` that must exist, such as ``reconstructions.npz``.
    draw : callable
        Gets the contents of these files by name, and returns HTML; the empty string leaves the section out.
    """

    key: str
    title: str
    needs: tuple[str, ...]
    draw: Callable[[Mapping[str, Mapping[str, np.ndarray]]], str]


class Family:
    """A model family. A subclass must define `name`, `kind`, `section` and :meth:`network`.

    Attributes
    ----------
    name : str
        The name in ``model.family``.
    kind : str
        Name of the kind of data, or the dotted name of a module that defines one.
    section : type
        Subclass of :class:`~hpctrain.profile.schema.ModelSection`: the keys of ``model`` in the profile.
    how : str
        ``gradient`` for networks, ``rounds`` for a :class:`RoundsModel`.
    objective : Objective
        The number that decides which evaluation is the best one.
    sketch_name : str
        Name of the file of ``results/`` for the arrays of :meth:`sketch`, without ``.npz``.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    section: ClassVar[type[ModelSection]]
    how: ClassVar[Literal["gradient", "rounds"]] = "gradient"
    objective: ClassVar[Objective] = Objective()
    sketch_name: ClassVar[str] = "examples"

    def network(self, section: ModelSection, facts: Facts) -> Any:
        """Return the network, or the model of rounds, with new weights from torch's global random state.

        Returns
        -------
        torch.nn.Module with the methods of GradientNetwork, or RoundsModel
            On the CPU, in training mode, in float32.
        """
        raise NotImplementedError

    def num_rounds(self, section: ModelSection) -> int:
        """Return the number of rounds, for a family that learns in rounds."""
        raise NotImplementedError

    def judge(self, judge: Judge) -> None:
        """Report problems of the ``model`` section that one key alone does not show."""

    def pin(self, section: ModelSection, facts: Facts) -> dict[str, Any]:
        """Return values of the pinned keys for a run that starts from a model of this section and these facts."""
        return {}

    def curves(self) -> Sequence[Curve]:
        """Return the metrics that the report draws beside the loss."""
        return ()

    def panels(self) -> Sequence[Panel]:
        """Return the sections of the report that only this family has."""
        return ()

    def sketch(self, model: Any, batch: Batch, step: int) -> dict[str, np.ndarray] | None:
        """Return arrays that show how the model does on a few held-out samples, for figures; None for none."""
        return None

    def figures(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
        """Yield names and matplotlib figures of the arrays of :meth:`sketch`."""
        yield from ()

    def write_results(self, model: Any, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        """Write what the finished model says about the held-out samples into ``results/``.

        By default ``predictions.h5`` with the columns of ``predict``.

        Raises
        ------
        NoResultsError
            No held-out sample can be used.
        """
        from hpctrain.families.predictions import write_predictions

        write_predictions(model, card, held_out, folder / "predictions.h5")


@dataclass(frozen=True)
class HeldOut:
    """Samples for which a finished model writes its results.

    Parameters
    ----------
    samples : Samples
    rows : ndarray, shape (n,), int64
    prepare : callable
        Cleans and normalises a batch on its device.
    batch_size : int
    device : torch.device
    tick : callable
        Is called with the number of samples done.
    """

    samples: Samples
    rows: np.ndarray
    prepare: Callable[[Batch], Batch]
    batch_size: int
    device: torch.device
    tick: Callable[[int], object]
