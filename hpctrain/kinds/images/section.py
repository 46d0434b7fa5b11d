"""The ``data`` section of a profile whose samples are images. N images, B bands, H × W pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section, Switch
from hpctrain.profile.sections.data import SAMPLE_ORDER, DataSection

MODEL_IMAGES = "the network has learned images that were prepared this way"
"""Reason why a resumed run cannot change a key that decides what the network reads."""


class ImageColumnsSection(Section):
    """Names of the datasets in an HDF5 file, or of columns in a table that lists image files."""

    image: PathText = "image"
    """(N, B, H, W), (N, H, W) or (N, H, W, B) pixel values."""
    ivar: PathText | None = "ivar"
    """Inverse variance of `image`, of the same shape; 0 masks a pixel. The file need not have it."""
    mask: PathText | None = "mask"
    """Integers or bools (N, B, H, W) or (N, H, W), of which `mask_marks` says what they mean. The file need not have
    it."""
    bands: PathText | None = "bands"
    """(B,) or (N, B) texts: names of the bands. The file need not have it; the bands are then called 0, 1, ..."""
    target_id: PathText | None = "target_id"
    """(N,) identifier of the object, or the column of a table with it. The file need not have it; then the number of
    the row stands for the object."""
    file: PathText = "file"
    """Column of a table that lists image files: the name of each file, relative to the folder of the table."""

    optional: ClassVar[frozenset[str]] = frozenset({"ivar", "mask", "bands", "target_id"})
    """Datasets that the file need not have, unless the profile names them."""


class ScaleSection(Section):
    """The scaling of pixel values on the device, after bands and crop."""

    by: Literal["auto", "asinh", "lupton", "linear"] = "auto"
    """``asinh``: arcsinh of value / `unit`, band by band; ``lupton``: the arcsinh of the mean of the bands, which keeps
    their ratios, so the colours; ``linear``: value / `unit`. ``auto``: linear with unit 255 for images of 8 bits, else
    asinh."""
    unit: Literal["noise"] | Annotated[float, Field(gt=0)] = "noise"
    """Pixel value that counts as 1: a number in the unit of the file, or the noise of each band of each image: 1 /
    sqrt(median ivar), or without ivar the robust scatter of the pixels."""
    softening: Annotated[float, Field(gt=0)] = 1.0
    """`unit` is multiplied by this; a larger number shows bright centres, a smaller one faint outskirts."""


def read_preparation(values: Mapping[str, Any]) -> tuple[ScaleSection, int | None, int]:
    """Return the section ``scale``, and crop and bin, from the card of a model."""
    return ScaleSection.model_validate_json(json.dumps(values["scale"])), values["crop"], values["bin"]


class ImageAugmentSection(Section):
    """Random changes of the training images; evaluation uses the unchanged images."""

    flip: Switch = True
    """Mirror images at random."""
    rotate: Switch = True
    """Rotate images by a random multiple of 90°; they must be square."""
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    """Largest random shift along both axes [pixel, after `bin`]; pixels that come from outside get weight 0."""


class SimulateImagesSection(Section):
    """Galaxies to simulate if the files of ``data.files`` do not exist; some have lensed arcs."""

    num_images: Annotated[int, Field(ge=1)] = 4000
    """Number of images."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the simulation."""
    num_pixels: Annotated[int, Field(ge=16, le=512)] = 48
    """Pixels along each side, of 0.263 arcsec."""
    lens_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of images with a lensed background galaxy."""
    seeing: Annotated[float, Field(gt=0, le=5)] = 0.9
    """Median width (FWHM) of the point spread function [arcsec]."""


class ImagesSection(DataSection):
    """The images to use: HDF5 files, or tables (CSV, FITS, ...) that list JPEG, PNG or FITS images."""

    fixed: ClassVar[Mapping[str, str]] = {
        **DataSection.fixed,
        **dict.fromkeys(("bands", "crop", "bin", "scale"), MODEL_IMAGES),
        "max_images": SAMPLE_ORDER,
    }

    columns: ImageColumnsSection = ImageColumnsSection()
    mask_marks: Literal["bad", "good"] = "bad"
    """Pixels that a nonzero value of the mask marks."""
    bands: Annotated[list[PathText], Field(min_length=1, max_length=64)] | None = None
    """Bands to use, by name, in this order; if unset, all of the file."""
    crop: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Side of the central square to use [pixel of the file]; if unset, the whole image."""
    bin: Annotated[int, Field(ge=1, le=64)] = 1
    """Pixels along each axis that are averaged into one; it must divide `crop`, or the sides of the image."""
    scale: ScaleSection = ScaleSection()
    augment: ImageAugmentSection = ImageAugmentSection()
    bad_pixels: Literal["mask", "error"] = "mask"
    """For a pixel that is not finite, or whose ivar is negative or not finite: ``mask`` gives it weight 0 and counts
    it; ``error`` ends the run and names file, row and object."""
    max_images: Annotated[int, Field(ge=1)] | None = None
    """Largest number of training images, chosen by the hash of the object id; if unset, all are used."""
    simulate: SimulateImagesSection | None = None  # type: ignore[assignment]
    """Simulate these images if no file of `files` exists."""

    @property
    def max_samples(self) -> int | None:
        return self.max_images

    @property
    def refuses_bad_values(self) -> bool:
        return self.bad_pixels == "error"

    def unwritten_keys(self) -> list[tuple[str, ...]]:
        # A written key would require a dataset that may be absent.
        return [("columns", name) for name in sorted(self.columns.optional - self.columns.model_fields_set)]

    @property
    def card_entries(self) -> dict[str, Any]:
        keys = {"scale", "crop", "bin"}
        return {"images": self.model_dump(mode="json", include=keys)}
