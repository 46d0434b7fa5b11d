"""Classes: cross-entropy, accuracy and macro-averaged F1, probabilities with a temperature. N samples, C classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpctrain.families.labels.head import FEWEST_TO_CALIBRATE, Head, fit_temperature
from hpctrain.families.labels.monotone import fit_classes, identity_of_classes
from hpctrain.families.labels.remapped import remapped_classes
from hpctrain.families.labels.section import LabelSection
from hpctrain.samples.labels import MISSING_CODE

ASSUMED_CLASSES = 10
"""Number of classes of a label that has not been settled: for estimates of memory without data."""


class ClassHead(Head):
    """One of several classes.

    Parameters
    ----------
    label : LabelSection
    num_features : int
    """

    def __init__(self, label: LabelSection, num_features: int) -> None:
        self.num_classes = len(label.classes or range(ASSUMED_CLASSES))
        super().__init__(label, num_features, self.num_classes)
        weights = label.class_weights if isinstance(label.class_weights, list) else [1.0] * self.num_classes
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)

    def _codes(self, labels: Mapping[str, Tensor], outputs: Tensor) -> Tensor:
        codes = labels.get(self.title)
        return torch.full_like(outputs[:, 0], MISSING_CODE, dtype=torch.int64) if codes is None else codes

    def _no_map(self) -> np.ndarray:
        return identity_of_classes(self.num_classes)

    def probability(self, outputs: Tensor) -> Tensor:
        """Return the calibrated probabilities, (N, C)."""
        p = (outputs / self.calibration).softmax(dim=1)
        return p if self.monotone is None else remapped_classes(self.monotone, p)

    def _log_loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Return minus the log of the calibrated probability of each code (N,), (N,)."""
        if self.monotone is None:
            return functional.cross_entropy(outputs / self.calibration, codes, reduction="none")
        return -self.probability(outputs).gather(1, codes[:, None])[:, 0].log()

    def loss(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        codes = self._codes(labels, outputs)
        safe = codes.clamp(min=0)
        weight = torch.where(codes >= 0, self.class_weights[safe], 0.0)
        return weight * functional.cross_entropy(outputs, safe, reduction="none"), weight

    def sums(self, outputs: Tensor, labels: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
        codes = self._codes(labels, outputs)
        counted = counted & (codes >= 0)
        safe = codes.clamp(min=0)
        loss = self._log_loss(outputs, safe)
        found = {"num": counted.sum().float(), "nll": torch.where(counted, loss, 0.0).sum()}
        if self.training:
            return found
        true = functional.one_hot(safe, self.num_classes) * counted[:, None]
        guessed = functional.one_hot(self._best(outputs), self.num_classes) * counted[:, None]
        for name, each in (("both", true * guessed), ("true", true), ("guessed", guessed)):
            found |= {f"{name}.{number}": value for number, value in enumerate(each.sum(dim=0).float())}
        return found

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        if not sums["num"]:
            return {}
        found = {"log_loss": sums["nll"] / sums["num"]}
        if "both.0" not in sums:
            return found
        both, true, guessed = (
            [sums[f"{name}.{number}"] for number in range(self.num_classes)] for name in ("both", "true", "guessed")
        )
        scores = [2 * b / (t + g) for b, t, g in zip(both, true, guessed, strict=True) if t]
        return {**found, "accuracy": sum(both) / sums["num"], "macro_f1": sum(scores) / len(scores)}

    def columns(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"CODE": self._best(outputs), "PROB": self.probability(outputs)}

    def _best(self, outputs: Tensor) -> Tensor:
        return (outputs if self.monotone is None else self.probability(outputs)).argmax(dim=1)

    def judged(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        codes = self._codes(labels, outputs)
        loss = self._log_loss(outputs, codes.clamp(min=0)).masked_fill(codes < 0, torch.nan)
        raw = {} if self.monotone is None else {"PROB_RAW": outputs.softmax(dim=1)}
        return {"TRUE_CODE": codes, "LOG_LOSS": loss, **raw}

    def calibrate(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> None:
        codes = self._codes(labels, outputs)
        outputs, codes = outputs[codes >= 0].double(), codes[codes >= 0]
        if len(codes) >= FEWEST_TO_CALIBRATE:
            found = fit_temperature(lambda temperature: functional.cross_entropy(outputs / temperature, codes).item())
            self.calibration.fill_(found)
        if self.monotone is not None:
            p = (outputs / self.calibration).softmax(dim=1)
            self.monotone.copy_(torch.from_numpy(fit_classes(p.cpu().numpy(), codes.cpu().numpy())))
