"""Templates of spectral classes: mean spectrum and principal components in the rest frame, and their file. No torch.

K components, R pixels of the rest frame. Grids are those of :mod:`hpctrain.redshift.log_grid`: pixel r is at
ln wavelength = r * step.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.files import NewFile

FORMAT = "hpctrain-redshift-templates"
FORMAT_VERSION = 1

_ATTRIBUTES = ("first_pixel", "redshift_min", "redshift_max", "num_spectra")


@dataclass(frozen=True)
class Template:
    """Mean spectrum and components of one class.

    Parameters
    ----------
    name : str
        The class, such as QSO.
    first : int
        Number of the first pixel of the rest-frame grid.
    basis : ndarray, shape (1 + K, R), float64
        The mean spectrum, and the components in units of their standard deviation over the training spectra.
    redshift_min, redshift_max : float
        Range of the redshifts to search.
    num_spectra : int
        Number of training spectra.
    """

    name: str
    first: int
    basis: np.ndarray
    redshift_min: float
    redshift_max: float
    num_spectra: int

    def shifts(self, step: float) -> tuple[int, int]:
        """Return the first and the last shift of the search in pixels of this step."""
        first = math.ceil(math.log1p(self.redshift_min) / step)
        return first, max(first, math.floor(math.log1p(self.redshift_max) / step))

    def between(self, first: int, last: int) -> np.ndarray:
        """Return mean and components for pixels `first` to `last`, shape (1 + K, last - first + 1).

        Beyond the ends of the template, the values are those at its ends.
        """
        pixels = np.arange(first, last + 1) - self.first
        return self.basis[:, np.clip(pixels, 0, self.basis.shape[1] - 1)]


@dataclass(frozen=True)
class Templates:
    """Templates of all classes, on grids of one step.

    Parameters
    ----------
    step : float
        Step of the grids in ln wavelength.
    pixel : float
        Median width of the pixels of the training spectra in ln wavelength.
    classes : list of Template
    provenance : dict
        Plain values: what the templates were made from.
    """

    step: float
    pixel: float
    classes: list[Template]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [template.name for template in self.classes]

    @property
    def digest(self) -> str:
        """SHA-256 of all numbers, which identifies the templates."""
        found = hashlib.sha256(np.array([self.step, self.pixel]).tobytes())
        for template in self.classes:
            numbers = [template.first, template.redshift_min, template.redshift_max]
            found.update(template.name.encode() + np.array(numbers, dtype="<f8").tobytes())
            found.update(np.ascontiguousarray(template.basis, dtype="<f8").tobytes())
        return found.hexdigest()

    def smoothed(self, pixel: float) -> Templates:
        """Return templates for spectra whose pixels have this width in ln wavelength.

        Pixels that are wider than those of the training spectra average the spectrum, and so must the templates.
        """
        missing = pixel**2 - self.pixel**2
        width = math.sqrt(max(0.0, missing)) / self.step
        if width < 0.5:
            return self
        half = max(0.0, 0.5 * (width - 1))
        kernel = np.ones(2 * math.ceil(half) + 1)
        kernel[[0, -1]] -= math.ceil(half) - half
        kernel /= kernel.sum()
        reach = len(kernel) // 2
        classes = []
        for each in self.classes:
            padded = each.between(each.first - reach, each.first + each.basis.shape[1] - 1 + reach)
            basis = np.stack([np.convolve(row, kernel, mode="valid") for row in padded])
            numbers = each.redshift_min, each.redshift_max, each.num_spectra
            classes.append(Template(each.name, each.first, basis, *numbers))
        return Templates(self.step, pixel, classes, self.provenance)


def save_templates(path: Path, templates: Templates) -> None:
    """Write a file of templates; write it as a whole or not at all.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    try:
        with NewFile(path) as new, h5py.File(new.name_for_libraries, "w") as file:
            file.attrs.update(format=FORMAT, format_version=FORMAT_VERSION)
            file.attrs.update(log_step=templates.step, pixel_width=templates.pixel, sha256=templates.digest)
            file.attrs["provenance"] = json.dumps(templates.provenance)
            for template in templates.classes:
                _write_class(file.create_group(template.name), template, templates.step)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def _write_class(group: h5py.Group, template: Template, step: float) -> None:
    group.attrs.update({name: getattr(template, name) for name in _ATTRIBUTES[1:]})
    group.attrs["first_pixel"] = template.first
    pixels = template.first + np.arange(template.basis.shape[1])
    wavelength = group.create_dataset("wavelength", data=np.exp(step * pixels))
    wavelength.attrs.update({"unit": "AA", "description": "rest-frame vacuum wavelength"})
    basis = group.create_dataset("basis", data=template.basis)
    basis.attrs["description"] = "mean spectrum, then components in units of their standard deviation"


def load_templates(path: str | Path) -> Templates:
    """Read a file of templates.

    Raises
    ------
    DataError
        The file does not exist, is damaged, or is no file of templates.
    """
    advice = "make templates with: hpctrain redshift templates FILE.h5... --out TEMPLATES.h5"
    try:
        with h5py.File(path, "r") as file:
            if _text(file.attrs.get("format")) != FORMAT:
                raise DataError(f"{path}: holds no redshift templates (no attribute format = '{FORMAT}'); {advice}")
            version = file.attrs.get("format_version")
            if version != FORMAT_VERSION:
                raise DataError(f"{path}: format version {version}, this hpctrain reads {FORMAT_VERSION}; {advice}")
            classes = [_read_class(group) for group in file.values() if isinstance(group, h5py.Group)]
            provenance = json.loads(_text(file.attrs.get("provenance", "{}")))
            found = Templates(float(file.attrs["log_step"]), float(file.attrs["pixel_width"]), classes, provenance)
            stored = _text(file.attrs["sha256"])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {advice}") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as a file of templates ({error}); {advice}") from error
    if not classes or stored != found.digest:
        raise DataError(f"{path}: its numbers are not those that were written; the file is damaged; {advice}")
    return found


def _read_class(group: h5py.Group) -> Template:
    values: Mapping[str, Any] = group.attrs
    first, low, high, count = (values[name] for name in _ATTRIBUTES)
    basis = np.asarray(group["basis"][()], dtype=np.float64)
    if basis.ndim != 2 or not np.isfinite(basis).all() or not -1 < low <= high:
        raise ValueError(f"class {group.name.lstrip('/')} has no usable basis or redshift range")
    return Template(group.name.lstrip("/"), int(first), basis, float(low), float(high), int(count))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
