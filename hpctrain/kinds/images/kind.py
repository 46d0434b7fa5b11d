"""Images as a kind of data. N images, B bands, H × W pixels. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.kinds.images.reasons import REMEDIES
from hpctrain.kinds.kind import Assumed, Kind
from hpctrain.words import Words

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hpctrain.kinds.images.batch import ImageBatch
    from hpctrain.kinds.images.facts import ImageFacts
    from hpctrain.kinds.images.images import ImageSet
    from hpctrain.kinds.images.section import ImagesSection
    from hpctrain.profile.inspection import Inspection
    from hpctrain.profile.judge import Judge

ASSUMED_SIDE = 64
"""Side of an image where there are no data yet and the profile does not say [pixel]."""

_HDF5 = (".h5", ".hdf5", ".hdf")


class Images(Kind):
    """Cut-outs with bands, and inverse variance or mask."""

    name = "images"
    words = Words(
        "image",
        "images",
        counted={
            "num_bad_pixels": (
                "{num_bad_pixels} pixels of {num_bad_images} images (not finite, or ivar negative or not finite) have "
                "been masked"
            ),
            "num_empty_images": "{num_empty_images} images show nothing and do not contribute to the loss",
        },
    )
    bad_sums = ("bad_pixels", "bad_images", "empty_images")
    bad_noun = "bad pixels"
    bad_advice = (
        "data.bad_pixels is error; repair them, or set data.bad_pixels: mask, which gives these pixels no weight"
    )
    remedies = REMEDIES
    only_hdf5 = False

    @property
    def section(self) -> type[ImagesSection]:  # pydantic is imported only for a profile
        from hpctrain.kinds.images.section import ImagesSection

        return ImagesSection

    def judge(self, judge: Judge) -> None:
        data = judge.profile.data
        if data.cache == "ram":
            judge.problem("images cannot be kept in memory as a whole; remove it", "data.cache")
        if data.crop is not None and data.crop % data.bin:
            judge.problem(f"{data.bin} does not divide data.crop: {data.crop}", "data.bin", "data.crop")
        if data.bands is not None and len(set(data.bands)) < len(data.bands):
            judge.problem("names a band twice", "data.bands")
        listed = [name for name in data.files if not name.lower().endswith(_HDF5)]
        if data.stage is not None and listed:
            message = (
                f"'{listed[0]}' lists images in other files, which are not copied; put the images into HDF5, or remove "
                "data.stage"
            )
            judge.problem(message, "data.stage", "data.files")

    def open(self, data: ImagesSection, base: Path | None = None) -> ImageSet:
        from hpctrain.kinds.images.images import open_images

        return open_images(data, base)

    def facts(self, samples: ImageSet, rows: np.ndarray) -> ImageFacts:
        from hpctrain.kinds.images.facts import ImageFacts

        return ImageFacts(samples.bands, *samples.prepared_shape)

    def read_facts(self, values: Mapping[str, Any]) -> ImageFacts:
        from hpctrain.kinds.images.facts import ImageFacts

        return ImageFacts(tuple(values["bands"]), int(values["height"]), int(values["width"]))

    def assumed(self, data: ImagesSection) -> Assumed:
        from hpctrain.kinds.images.facts import ImageFacts

        bands = tuple(data.bands or ("g", "r", "i"))
        if data.simulate is None:
            side = (data.crop or ASSUMED_SIDE * data.bin) // data.bin
            return Assumed(ImageFacts(bands, side, side), f"{len(bands)} bands and {side} × {side} pixels")
        side = (data.crop or data.simulate.num_pixels) // data.bin
        return Assumed(ImageFacts(bands, side, side), f"{side} × {side} simulated pixels", data.simulate.num_images)

    def inspect(self, samples: ImageSet, rows: np.ndarray, data: ImagesSection) -> Inspection:
        from hpctrain.kinds.images.inspect import inspect_images

        return inspect_images(samples, rows, data)

    def bytes_per_sample(self, facts: ImageFacts) -> int:
        return 8 * len(facts.bands) * facts.height * facts.width

    def shape(self, samples: ImageSet) -> dict[str, int]:
        height, width = samples.prepared_shape
        return {"num_bands": len(samples.bands), "height": height, "width": width}

    def preparation(self, card: Mapping[str, Any]) -> Callable[[ImageBatch], ImageBatch]:
        from hpctrain.kinds.images.prepare import prepare
        from hpctrain.kinds.images.section import read_preparation

        scale, crop, binning = read_preparation(card["images"])
        return lambda batch: prepare(batch, scale, crop, binning)

    def augmentation(self, data: ImagesSection) -> Callable[[ImageBatch], ImageBatch]:
        from hpctrain.kinds.images.augment import augment

        return lambda batch: augment(batch, data.augment)

    def count_bad(self, batch: ImageBatch) -> torch.Tensor:
        from hpctrain.kinds.images.bad import count_bad

        return count_bad(batch)

    def describe_bad(self, samples: ImageSet, rows: np.ndarray) -> list[str]:
        from hpctrain.kinds.images.bad import describe_bad

        return describe_bad(samples, rows)

    def reasons(self, samples: ImageSet, rows: np.ndarray, data: ImagesSection) -> list[str]:
        from hpctrain.kinds.images.reasons import reasons

        return reasons(samples, rows)

    def fake(self, facts: ImageFacts, num_samples: int) -> ImageBatch:
        from hpctrain.kinds.images.fake import fake_batch

        return fake_batch(facts, num_samples)

    def make(self, path: Path, simulate: Any) -> None:
        from hpctrain.kinds.images.simulate import simulate as write_file

        write_file(path, simulate)


KIND = Images()
