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
from hpctrain.families.shown import Card, Column, Curve, Panel
from hpctrain.metrics.objective import Objective
from hpctrain.words import Metric

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure

    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.result_files import Arrays
    from hpctrain.metrics.read import History
    from hpctrain.profile.judge import Judge
    from hpctrain.profile.sections.data import DataSection
    from hpctrain.profile.sections.model import ModelSection
    from hpctrain.samples.protocols import Batch, Facts, Samples


@dataclass(frozen=True)
class TrainingSamples:
    """What a family may look at before the first step, to set the weights that training starts from.

    Parameters
    ----------
    rows : ndarray, shape (n,), int64
        Training rows.
    read : callable
        Yields prepared batches, on the device, of the rows that it is given.
    prepare : callable
        Prepares a batch that comes from elsewhere, on the device.
    device : torch.device
    seed : int
        Seed of this start.
    """

    rows: np.ndarray
    read: Callable[[np.ndarray], Iterator[Batch]]
    prepare: Callable[[Batch], Batch]
    device: torch.device
    seed: int


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

    A round is a function of its number, the seed and the samples; so a resumed run continues exactly. Where
    :meth:`Family.most_ranks` is above 1, ``do_round`` also takes ``ranks``, which do the round together
    (:class:`~hpctrain.distributed.ranks.Ranks`). All of them must end with the same state, whatever their number.
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


class Family:
    """A model family. A subclass must define `name`, `kind`, `section` and :meth:`network`.

    Attributes
    ----------
    name : str
        The name in ``model.family``.
    kind : str
        Name of the kind of data, or the dotted name of a module that defines one.
    section : type
        Subclass of :class:`~hpctrain.profile.sections.model.ModelSection`: the keys of ``model`` in the profile.
    how : str
        ``gradient`` for networks, ``rounds`` for a :class:`RoundsModel`.
    objective : Objective
        The number that decides which evaluation is the best one.
    shown_metrics : tuple of Metric
        Metrics of an evaluation that log and Prometheus show beside the loss.
    sketch_name : str
        Name of the file of ``results/`` for the arrays of :meth:`sketch`, without ``.npz``.
    loss : Curve
        The large figure of the report, with the losses of training and validation.
    against_overfitting : str
        What helps against overfitting if there are no more data, in words.
    encodes : bool
        Whether :meth:`predictions` holds latent vectors, so that the model is an encoder.
    data_section : type or None
        Subclass of the kind's section: the keys and defaults of ``data`` for this family; None for the kind's own.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    section: ClassVar[type[ModelSection]]
    how: ClassVar[Literal["gradient", "rounds"]] = "gradient"
    objective: ClassVar[Objective] = Objective()
    shown_metrics: ClassVar[tuple[Metric, ...]] = ()
    sketch_name: ClassVar[str] = "examples"
    loss: ClassVar[Curve] = Curve("loss", "Loss")
    against_overfitting: ClassVar[str] = "a smaller model"
    encodes: ClassVar[bool] = False
    data_section: ClassVar[type[DataSection] | None] = None

    def network(self, section: ModelSection, facts: Facts) -> Any:
        """Return the network, or the model of rounds, with new weights from torch's global random state.

        Returns
        -------
        torch.nn.Module with the methods of GradientNetwork, or RoundsModel
            On the CPU, in training mode, in float32.
        """
        raise NotImplementedError

    def has_start(self, section: ModelSection) -> bool:
        """Return whether :meth:`start` sets weights; then the run is evaluated before its first step too."""
        return False

    def start(self, model: Any, section: ModelSection, samples: TrainingSamples) -> Iterator[None]:
        """Set the weights of a new network from the training samples; yield after each piece of work.

        Only rank 0 calls it, in a run that begins without a checkpoint and without ``train.init_from``; all ranks get
        its weights. The weights must depend on nothing but the samples and the seed.

        Parameters
        ----------
        model : torch.nn.Module
            The network, on the device.
        section : ModelSection
        samples : TrainingSamples

        Raises
        ------
        DataError
            The samples do not serve.
        """
        yield from ()

    def num_rounds(self, section: ModelSection) -> int:
        """Return the number of rounds, for a family that learns in rounds."""
        raise NotImplementedError

    def most_ranks(self, section: ModelSection) -> int:
        """Return the largest number of ranks that can do a round together, for a family that learns in rounds."""
        return 1

    def bytes_per_sample(self, section: ModelSection, sample: int, cores: int) -> int | None:
        """Return about how many bytes of memory a round needs for each training sample; None if it is not known.

        Parameters
        ----------
        section : ModelSection
        sample : int
            Bytes of one sample.
        cores : int
            Cores of the rank.
        """
        return None

    def judge(self, judge: Judge) -> None:
        """Report problems of the ``model`` section that one key alone does not show."""

    def pin(self, section: ModelSection, facts: Facts) -> dict[str, Any]:
        """Return values of the pinned keys for a run that starts from a model of this section and these facts."""
        return {}

    def settle(
        self, section: ModelSection, samples: Samples, rows: np.ndarray, start: ModelSection | None = None
    ) -> ModelSection:
        """Return the section with the values that depend on the training data, such as the names of classes.

        The first attempt calls this on one rank; the model's card keeps the result, so that all ranks, all later
        attempts and all predictions agree. The keys that it sets must be among those of ``section.pinned``.

        Parameters
        ----------
        section : ModelSection
            The section of the profile.
        samples : Samples
        rows : ndarray, shape (n,), int64
            Training rows.
        start : ModelSection, optional
            The section of the model of ``train.init_from``, whose weights the new model gets.

        Raises
        ------
        DataError
            Nothing can be learned from these samples.
        """
        return section

    def labels(self, section: ModelSection, samples: Samples) -> Mapping[str, np.ndarray]:
        """Return arrays (N,) of floats or integers that every batch shall carry as ``batch.labels``.

        A missing value is NaN or -1. Where there are such arrays, rows without any value are left out of training and
        evaluation. By default there are none.

        Parameters
        ----------
        section : ModelSection
            A settled section.
        samples : Samples
            Their method ``column`` reads the files.

        Raises
        ------
        DataError
            A column is absent, or holds something else.
        """
        return {}

    def complete(self, model: Any, held_out: HeldOut) -> None:
        """Change the finished model in place before it is stored, such as the calibration of its uncertainties.

        Only buffers may change, not weights. The batches of `held_out` carry labels. By default nothing changes.

        Parameters
        ----------
        model : torch.nn.Module or RoundsModel
            In evaluation mode.
        held_out : HeldOut
            The held-out samples; there may be none.
        """

    def learned_entries(self, model: Any) -> dict[str, Any]:
        """Return what the card of a finished model says beyond its blueprint, after :meth:`complete`; plain JSON.

        Parameters
        ----------
        model : torch.nn.Module or RoundsModel
        """
        return {}

    def curves(self) -> Sequence[Curve]:
        """Return the metrics that the report draws beside the loss.

        The report draws every other number of the evaluation records too, with its name as the title.
        """
        return ()

    def cards(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> Sequence[Card]:
        """Return the family's own key numbers, which come first at the top of the report.

        Parameters
        ----------
        evaluation : mapping
            The last record ``eval`` with a finite loss; empty if there is none.
        held_out : str
            The held-out samples in words, with their number where it is known: ``400 held-out spectra``.
        results : mapping of str to arrays
            The files of ``results/`` that the panels need or want, by name, if they exist and can be read.
        """
        return ()

    def fit_sentence(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> str:
        """Return in one sentence how well the model does; the arguments are those of :meth:`cards`.

        By default the value of the `objective`, or of the loss if the record has no such value.
        """
        metric = self.objective.metric if evaluation.get(self.objective.metric) is not None else "loss"
        return f"The {metric.replace('_', ' ')} on {held_out} is {evaluation[metric]:.4g}."

    def caveats(self, history: History, results: Mapping[str, Arrays]) -> Sequence[str]:
        """Return what a reader should know before believing the numbers, with what to do about it.

        Parameters
        ----------
        history : History
            The records of the run.
        results : mapping of str to arrays
            As for :meth:`cards`.
        """
        return ()

    def panels(self) -> Sequence[Panel]:
        """Return the sections of the report that only this family has; by default a table of the predictions."""
        from hpctrain.families.predictions_panel import PREDICTIONS  # numpy: not for a check of a profile

        return (PREDICTIONS,)

    def read_results(self, path: Path) -> Arrays:
        """Return the arrays of a file of ``results/`` that a panel needs; by default all of an npz or HDF5 file.

        An exception becomes a line of the report. To say what is wrong with the contents, raise
        :class:`~hpctrain.families.result_files.UnusableResultsError`.
        """
        from hpctrain.families.result_files import read_arrays

        return read_arrays(path)

    def example(self, results: Mapping[str, Arrays]) -> str:
        """Return a drawing of one held-out sample as an SVG file, for ``--example``; empty if there is none."""
        return ""

    def sketch(self, model: Any, batch: Batch, step: int) -> dict[str, np.ndarray] | None:
        """Return arrays that show how the model does on a few held-out samples, for figures; None for none."""
        return None

    def figures(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
        """Yield names and matplotlib figures of the arrays of :meth:`sketch`."""
        yield from ()

    def columns(self) -> Mapping[str, Column]:
        """Return what the columns of :meth:`predictions` and :meth:`scores` mean, as far as that is known."""
        return {}

    def columns_of(self, card: Mapping[str, Any]) -> Mapping[str, Column]:
        """Return the same for one model, whose card may say more, such as units; by default :meth:`columns`."""
        return self.columns()

    def predictions(self, model: Any, card: Mapping[str, Any], batch: Batch) -> dict[str, np.ndarray]:
        """Return the columns (n, ...) that a finished model predicts for samples as they were read.

        By default those of ``predict``, for the prepared batch.

        Parameters
        ----------
        model : torch.nn.Module or RoundsModel
            In evaluation mode.
        card : mapping
            Its card.
        batch : Batch
            On the model's device.
        """
        from hpctrain.families.predictions import predict
        from hpctrain.profile.lookup import find_kind

        return predict(model, find_kind(self.kind).preparation(card)(batch))

    def scores(self, table: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return more columns (N,) that depend on all samples of a table of predictions."""
        return {}

    def reconstructions(self, model: Any, card: Mapping[str, Any], batch: Batch) -> dict[str, np.ndarray]:
        """Return the samples, as they were read, and how the model would draw them; for autoencoders.

        The arguments are those of :meth:`predictions`.

        Raises
        ------
        DataError
            The family does not reconstruct its input.
        """
        raise DataError(f"a model of the family {self.name} does not reconstruct its input")

    def to_network(self, model: Any) -> Any:
        """Return a model that learns in rounds as a network with ``predict(batch)``, for the export to ONNX.

        Raises
        ------
        DataError
            It is no network, and the message says why; by default no such model is one.
        """
        raise DataError(f"a model of the family {self.name} learns in rounds and is no network, so it has no ONNX")

    def embedding(self, model: Any, card: Mapping[str, Any], batch: Batch) -> np.ndarray | None:
        """Return a vector of each sample as it was read, (n, F), in which similar samples are near; None for none.

        NaN stands for numbers that are missing. By default latent vectors, where the model is an encoder.

        Parameters
        ----------
        model : torch.nn.Module or RoundsModel
            In evaluation mode.
        card : mapping
        batch : Batch
            On the model's device.
        """
        return self.predictions(model, card, batch).get("LATENT_VEC") if self.encodes else None

    def add_columns(
        self, card: Mapping[str, Any], columns: Mapping[str, np.ndarray], read: Callable[[str], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return further columns (N, ...) that follow from those of :meth:`predictions`; by default none.

        Parameters
        ----------
        card : mapping
        columns : mapping of str to ndarray, shape (N, ...)
        read : callable
            Returns a column (N,) of the files, or ``target_id``, by its name.

        Raises
        ------
        DataError
            The files lack a column.
        """
        return {}

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
