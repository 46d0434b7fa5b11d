"""Spectra as a kind of data. N spectra, L pixels. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.kinds.kind import Assumed, Kind
from hpctrain.kinds.spectra.judge import check_columns
from hpctrain.kinds.spectra.reasons import REMEDIES
from hpctrain.words import Words

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hpctrain.kinds.spectra.arrays import SpectraArrays
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.facts import SpectraFacts
    from hpctrain.kinds.spectra.hdf5 import SpectraSet
    from hpctrain.kinds.spectra.section import SpectraSection
    from hpctrain.metrics.read import History
    from hpctrain.profile.inspection import Inspection
    from hpctrain.profile.judge import Judge

PIXEL_BYTES = 8
"""Bytes of the flux and inverse variance of a pixel, float32."""


class Spectra(Kind):
    """Spectra with inverse variance and redshift."""

    name = "spectra"
    words = Words(
        "spectrum",
        "spectra",
        counted={
            "num_bad_pixels": (
                "{num_bad_pixels} pixels of {num_bad_spectra} spectra (flux not finite, ivar negative or not finite) "
                "have been masked"
            ),
            "num_empty_spectra": ("{num_empty_spectra} spectra are fully masked and do not contribute to the loss"),
        },
    )
    bad_sums = ("bad_pixels", "bad_spectra", "empty_spectra")
    bad_noun = "bad pixels"
    bad_advice = (
        "data.bad_pixels is error; repair them, or set data.bad_pixels: mask, which gives these pixels no weight"
    )
    remedies = REMEDIES
    main_columns = ("flux", "ivar")
    coordinate = "wavelength_aa"
    array_names = ("flux", "ivar", "wavelength", "redshift", "target_id", "mask")

    @property
    def section(self) -> type[SpectraSection]:  # pydantic is imported only for a profile
        from hpctrain.kinds.spectra.section import SpectraSection

        return SpectraSection

    def judge(self, judge: Judge) -> None:
        check_columns(judge)

    def open(self, data: SpectraSection, base: Path | None = None) -> SpectraSet:
        from hpctrain.kinds.spectra.hdf5 import open_spectra

        return open_spectra(data, base)

    def from_arrays(self, card: Mapping[str, Any], columns: Mapping[str, Any]) -> SpectraArrays:
        from hpctrain.kinds.spectra.arrays import SpectraArrays

        return SpectraArrays(columns, needs_redshift=card["normalise"].get("frame") != "observed")

    def facts(self, samples: SpectraSet, rows: np.ndarray) -> SpectraFacts:
        from hpctrain.kinds.spectra.facts import SpectraFacts

        return SpectraFacts.from_spectra(samples, rows)

    def read_facts(self, values: Mapping[str, Any]) -> SpectraFacts:
        from hpctrain.kinds.spectra.facts import SpectraFacts

        return SpectraFacts.from_json(values)

    def assumed(self, data: SpectraSection) -> Assumed:
        from hpctrain.kinds.spectra.facts import DESI_GRID

        if data.simulate is None:
            return Assumed(DESI_GRID, "the DESI grid and redshifts up to 4")
        facts = replace(DESI_GRID, num_pixels=data.simulate.num_pixels or DESI_GRID.num_pixels)
        source = f"{facts.num_pixels} simulated pixels and redshifts up to 4"
        return Assumed(facts, source, data.simulate.num_spectra)

    def inspect(self, samples: SpectraSet, rows: np.ndarray, data: SpectraSection) -> Inspection:
        from hpctrain.kinds.spectra.plausible import inspect_spectra

        return inspect_spectra(samples, rows, data)

    def bytes_per_sample(self, facts: SpectraFacts) -> int:
        return facts.num_pixels * PIXEL_BYTES

    def shape(self, samples: SpectraSet) -> dict[str, int]:
        return {"num_pixels": samples.num_pixels}

    def counts(self, samples: SpectraSet) -> dict[str, int]:
        return {"num_without_redshift": int((~samples.has_redshift).sum())} if samples.needs_redshift else {}

    def preparation(self, card: Mapping[str, Any]) -> Callable[[SpectraBatch], SpectraBatch]:
        from hpctrain.kinds.spectra.section import NormaliseSection, read_normalisation
        from hpctrain.kinds.spectra.transform import normalise, normalise_observed

        section = read_normalisation(card["normalise"])
        if isinstance(section, NormaliseSection):
            return lambda batch: normalise(batch, section)
        return lambda batch: normalise_observed(batch, section)

    def augmentation(self, data: SpectraSection) -> Callable[[SpectraBatch], SpectraBatch]:
        from hpctrain.kinds.spectra.transform import augment

        return lambda batch: augment(batch, data.augment)

    def count_bad(self, batch: SpectraBatch) -> torch.Tensor:
        from hpctrain.kinds.spectra.bad import count_bad

        return count_bad(batch)

    def describe_bad(self, samples: SpectraSet, rows: np.ndarray) -> list[str]:
        from hpctrain.kinds.spectra.bad import describe_bad

        return describe_bad(samples, rows)

    def reasons(self, samples: SpectraSet, rows: np.ndarray, data: SpectraSection) -> list[str]:
        from hpctrain.kinds.spectra.reasons import reasons

        return reasons(samples, rows, data)

    def caveats(self, history: History) -> list[str]:
        from hpctrain.kinds.spectra.caveats import caveats

        return caveats(history)

    def fake(self, facts: SpectraFacts, num_samples: int) -> SpectraBatch:
        from hpctrain.kinds.spectra.fake import fake_batch

        return fake_batch(facts, num_samples)

    def make(self, path: Path, simulate: Any) -> None:
        from hpctrain.kinds.spectra.simulate import simulate as write_file

        write_file(path, simulate)

    def memory_copies(self) -> Any:
        from hpctrain.kinds.spectra import ram

        return ram


KIND = Spectra()
