"""Rows of a catalogue as a kind of data. N objects, F inputs. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.kinds.kind import Assumed, Kind
from hpctrain.kinds.leaks import has_name_of_id
from hpctrain.words import Words

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.kinds.catalogue.facts import CatalogueFacts
    from hpctrain.kinds.catalogue.samples import CatalogueSamples
    from hpctrain.kinds.catalogue.section import CatalogueSection
    from hpctrain.profile.inspection import Inspection
    from hpctrain.profile.judge import Judge

NO_INPUT = "no value in any column"
"""Reason why an object carries no weight."""


class Catalogue(Kind):
    """Objects with a number per column."""

    name = "catalogue"
    words = Words("object", "objects")
    remedies = {NO_INPUT: "check data.missing and data.features"}  # noqa: RUF012
    only_hdf5 = False
    bounded_by = "data.max_rows"

    @property
    def section(self) -> type[CatalogueSection]:  # pydantic is imported only for a profile
        from hpctrain.kinds.catalogue.section import CatalogueSection

        return CatalogueSection

    def judge(self, judge: Judge) -> None:
        data = judge.profile.data
        for number, name in enumerate(data.features):
            if name in data.features[:number]:
                judge.problem(f"'{name}' is named twice", f"data.features.{number}")
            elif has_name_of_id(name):
                message = (
                    f"'{name}' is called like an identifier; a model can learn from it which object it sees, which "
                    "says nothing about new objects. Remove it, or rename the column if it is a measurement"
                )
                judge.warn(message, f"data.features.{number}")
        for number, pair in enumerate(data.differences):
            for name in pair:
                if name not in data.features:
                    judge.problem(
                        f"'{name}' is not one of data.features", f"data.differences.{number}", "data.features"
                    )
        for name in data.errors:
            if name not in data.features:
                judge.problem(f"'{name}' is not one of data.features", f"data.errors.{name}", "data.features")
        if data.asinh_magnitudes or data.extinction is not None:
            from hpctrain.kinds.catalogue.magnitudes import check_magnitudes

            check_magnitudes(judge)
        if data.cache == "ram":
            judge.warn("has no effect: catalogues are always read into memory", "data.cache")

    def open(self, data: CatalogueSection, base: Path | None = None) -> CatalogueSamples:
        from hpctrain.kinds.catalogue.samples import open_catalogue

        return open_catalogue(data, base)

    def facts(self, samples: CatalogueSamples, rows: np.ndarray) -> CatalogueFacts:
        from hpctrain.kinds.catalogue.facts import CatalogueFacts

        return CatalogueFacts(samples.names)

    def read_facts(self, values: Mapping[str, Any]) -> CatalogueFacts:
        from hpctrain.kinds.catalogue.facts import CatalogueFacts

        return CatalogueFacts(tuple(values["names"]))

    def assumed(self, data: CatalogueSection) -> Assumed:
        from hpctrain.kinds.catalogue.facts import CatalogueFacts

        facts = CatalogueFacts(data.input_names)
        return Assumed(facts, "data.features", None if data.simulate is None else data.simulate.num_objects)

    def inspect(self, samples: CatalogueSamples, rows: np.ndarray, data: CatalogueSection) -> Inspection:
        from hpctrain.kinds.catalogue.inspect import inspect_catalogue

        return inspect_catalogue(samples, rows, data)

    def bytes_per_sample(self, facts: CatalogueFacts) -> int:
        return 4 * len(facts.names)

    def shape(self, samples: CatalogueSamples) -> dict[str, int]:
        return {"num_inputs": len(samples.names)}

    def reasons(self, samples: CatalogueSamples, rows: np.ndarray, data: CatalogueSection) -> list[str]:
        return [NO_INPUT] * len(rows)

    def make(self, path: Path, simulate: Any) -> None:
        from hpctrain.kinds.catalogue.simulate import simulate as write_file

        write_file(path, simulate)


KIND = Catalogue()
