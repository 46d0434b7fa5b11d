"""Light curves as a kind of data. N curves, P points. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.kinds.kind import Assumed, Kind
from hpctrain.words import Words

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hpctrain.kinds.light_curves.batch import LightCurveBatch
    from hpctrain.kinds.light_curves.facts import LightCurveFacts
    from hpctrain.kinds.light_curves.samples import LightCurveSamples
    from hpctrain.kinds.light_curves.section import LightCurveSection
    from hpctrain.profile.inspection import Inspection
    from hpctrain.profile.judge import Judge

FEW_POINTS = "fewer points than data.min_points"
UNUSABLE = "no point with finite time and value and an error above 0"

POINT_BYTES = 14
"""Bytes of a point in a batch: time, value, error in float32, band in int16."""


class LightCurves(Kind):
    """Brightness at irregular times in several bands, with errors."""

    name = "light_curves"
    words = Words(
        "light curve",
        "light curves",
        counted={
            "num_bad_points": (
                "{num_bad_points} points of {num_bad_curves} light curves (time or value not finite, error not above "
                "0) have been left out"
            ),
            "num_empty_curves": "{num_empty_curves} light curves without points do not contribute to the loss",
        },
    )
    bad_sums = ("bad_points", "bad_curves", "empty_curves")
    bad_noun = "bad points"
    bad_advice = "data.bad_points is error; repair them, or set data.bad_points: mask, which leaves these points out"
    remedies = {  # noqa: RUF012
        FEW_POINTS: "lower data.min_points, or check data.bands",
        UNUSABLE: "check the columns time, value and error",
    }
    main_columns = ("time", "value", "error")
    coordinate = "time"

    @property
    def section(self) -> type[LightCurveSection]:  # pydantic is imported only for a profile
        from hpctrain.kinds.light_curves.section import LightCurveSection

        return LightCurveSection

    def judge(self, judge: Judge) -> None:
        data = judge.profile.data
        for key, names in (("bands", data.bands), ("features", data.features)):
            for number, name in enumerate(names):
                if name in names[:number]:
                    judge.problem(f"'{name}' is named twice", f"data.{key}.{number}")
        if data.min_points > data.max_points:
            message = f"is {data.min_points}, more than max_points ({data.max_points}); no curve would be used"
            judge.problem(message, "data.min_points", "data.max_points")
        if data.cache == "ram":
            judge.warn("has no effect: light curves are read from a map of the file", "data.cache")

    def open(self, data: LightCurveSection, base: Path | None = None) -> LightCurveSamples:
        from hpctrain.kinds.light_curves.samples import open_light_curves

        return open_light_curves(data, base)

    def facts(self, samples: LightCurveSamples, rows: np.ndarray) -> LightCurveFacts:
        from hpctrain.kinds.light_curves.facts import facts_of

        return facts_of(samples, rows)

    def read_facts(self, values: Mapping[str, Any]) -> LightCurveFacts:
        from hpctrain.kinds.light_curves.facts import LightCurveFacts

        return LightCurveFacts.from_json(values)

    def assumed(self, data: LightCurveSection) -> Assumed:
        from hpctrain.kinds.light_curves.facts import NUM_QUANTILES, LightCurveFacts

        num = len(data.all_features)
        features = (data.all_features, (0.0,) * num, (1.0,) * num, (tuple(range(NUM_QUANTILES)),) * num)
        facts = LightCurveFacts(tuple(data.bands), data.max_points, 1000.0, 0.1, data.fold is not None, *features)
        return Assumed(facts, "data.max_points", None if data.simulate is None else data.simulate.num_curves)

    def inspect(self, samples: LightCurveSamples, rows: np.ndarray, data: LightCurveSection) -> Inspection:
        from hpctrain.kinds.light_curves.inspect import inspect_curves

        return inspect_curves(samples, rows, data)

    def bytes_per_sample(self, facts: LightCurveFacts) -> int:
        return facts.max_points * (POINT_BYTES + 4 * facts.is_folded) + 4 * len(facts.features)

    def shape(self, samples: LightCurveSamples) -> dict[str, int]:
        return {"num_bands": len(samples.bands), "max_points": samples.max_points}

    def counts(self, samples: LightCurveSamples) -> dict[str, int]:
        return {"num_points": int(samples.num_points.sum())}

    def preparation(self, card: Mapping[str, Any]) -> Callable[[LightCurveBatch], LightCurveBatch]:
        from hpctrain.kinds.light_curves.transform import prepare

        values = card["light_curves"]
        return lambda batch: prepare(batch, values["normalise"], len(values["bands"]))

    def augmentation(self, data: LightCurveSection) -> Callable[[LightCurveBatch], LightCurveBatch] | None:
        from hpctrain.kinds.light_curves.transform import augment

        if not (data.augment.cut or data.augment.drop or data.augment.noise):
            return None
        return lambda batch: augment(batch, data.augment, data.normalise, len(data.bands))

    def count_bad(self, batch: LightCurveBatch) -> torch.Tensor:
        from hpctrain.kinds.light_curves.bad import count_bad

        return count_bad(batch)

    def describe_bad(self, samples: LightCurveSamples, rows: np.ndarray) -> list[str]:
        from hpctrain.kinds.light_curves.bad import describe_bad

        return describe_bad(samples, rows)

    def reasons(self, samples: LightCurveSamples, rows: np.ndarray, data: LightCurveSection) -> list[str]:
        return [UNUSABLE if usable else FEW_POINTS for usable in samples.usable(rows).tolist()]

    def fake(self, facts: LightCurveFacts, num_samples: int) -> LightCurveBatch:
        from hpctrain.kinds.light_curves.fake import fake_batch

        return fake_batch(facts, num_samples)

    def make(self, path: Path, simulate: Any) -> None:
        from hpctrain.kinds.light_curves.simulate import simulate as write_file

        write_file(path, simulate)


KIND = LightCurves()
