"""Finds in an opened file what the mapping names, and what it does not name but the usual names show."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.arrange import Arrangement, arrange, fits_labels, shape_problem
from hpctrain.ingest.mapped.fluxes import FluxScale, factor_of_noise
from hpctrain.ingest.mapped.mapping import (
    LOGARITHMS,
    NOISE_ROLES,
    NOTHING,
    PIXEL_ROLES,
    RESERVED,
    USUAL_LABELS,
    USUAL_NAMES,
    Mapping,
)
from hpctrain.ingest.mapped.stores.store import HEADER, Field, Store, describe_items, unique_items
from hpctrain.ingest.mapped.wavelengths import HeaderAxis, Scale, axis_of_header, scale_of_column


@dataclass
class Label:
    """Where the values of a column come from: a field of the file, or one value for all spectra.

    Parameters
    ----------
    source : str
        As the user writes it, for messages.
    field : Field, optional
    value : object
        Used if there is no field.
    unit : str
    """

    source: str
    field: Field | None = None
    value: Any = None
    unit: str = ""


@dataclass
class Layout:
    """Where each quantity of a file is, and what its numbers mean.

    Parameters
    ----------
    flux : Field
    flux_scale : FluxScale
    arrangement : Arrangement
        How spectra are arranged in the arrays.
    noise_role : str
        ``error``, ``ivar`` or ``variance``; empty if errors are made.
    noise : Field, optional
    masks : dict of Field
        ``mask`` and ``good``.
    wavelength : Field, optional
    axis : HeaderAxis, optional
        Used if there is no field.
    scale : Scale
        Of the wavelengths.
    labels : dict of Label
        By our name.
    """

    flux: Field
    flux_scale: FluxScale
    arrangement: Arrangement
    noise_role: str
    noise: Field | None
    masks: dict[str, Field]
    wavelength: Field | None
    axis: HeaderAxis | None
    scale: Scale
    labels: dict[str, Label] = field(default_factory=dict)


def resolve(store: Store, mapping: Mapping) -> Layout:
    """Find everything in an opened file.

    Raises
    ------
    DataError
        Something is missing or does not fit; the message has all problems, one per line.
    """
    return _Resolver(store, mapping).layout()


class _Resolver:
    """Collects problems while it looks for one thing after the other."""

    def __init__(self, store: Store, mapping: Mapping) -> None:
        self.store, self.mapping = store, mapping
        says_errors = mapping.makes_errors or any(role in mapping.columns for role in NOISE_ROLES)
        defaults = {
            ours: theirs for ours, theirs in store.defaults.items() if not (says_errors and ours in NOISE_ROLES)
        }
        named = {**defaults, **mapping.columns}
        self.unwanted = {ours for ours, theirs in named.items() if theirs == NOTHING}
        self.names = {ours: theirs for ours, theirs in named.items() if ours not in self.unwanted}
        self.problems: list[str] = []

    def layout(self) -> Layout:
        fields = {role: self._pixel_field(role) for role in PIXEL_ROLES}
        flux = fields["flux"] or self._only_image(fields)
        if flux is None and "flux" not in self.names:
            self.problems.append("flux: no array with a usual name; name it: --column flux=NAME")
        noise_role = self._noise_role(fields)
        wavelength, axis, scale = self._wavelengths(flux, fields["wavelength"])
        layout = None
        if flux is not None:
            layout = self._arranged(flux, fields, noise_role, wavelength, axis, scale)
        labels = self._labels(layout)
        if self.problems or layout is None:
            advice = [self.store.advice] if self.store.advice else []
            raise DataError("\n".join([*self.problems, f"the file has {describe_items(self.store)}", *advice]))
        layout.labels = labels
        return layout

    def _arranged(
        self,
        flux: Field,
        fields: dict[str, Field | None],
        noise_role: str,
        wavelength: Field | None,
        axis: HeaderAxis | None,
        scale: Scale,
    ) -> Layout | None:
        try:
            arrangement = arrange(flux, wavelength, self.mapping.along)
        except DataError as error:
            self.problems.append(str(error))
            return None
        masks = {role: fields[role] for role in ("mask", "good") if fields[role] is not None}
        noise = fields.get(noise_role)
        for role, each in {noise_role: noise, **masks}.items():
            problem = shape_problem(role, each, flux, arrangement) if each is not None else ""
            if problem:
                self.problems.append(problem)
        flux_scale = FluxScale(self.mapping.flux_unit or flux.item.unit, bool(self.mapping.flux_unit or flux.item.unit))
        self._check_units(flux_scale, noise_role, noise)
        return Layout(flux, flux_scale, arrangement, noise_role, noise, masks, wavelength, axis, scale)

    def _check_units(self, flux_scale: FluxScale, noise_role: str, noise: Field | None) -> None:
        grid = np.array([5000.0, 5001.0])
        try:
            flux_scale.factor(grid)
            if noise is not None:
                unit = "" if self.mapping.flux_unit else noise.item.unit
                factor_of_noise(noise_role, unit, flux_scale, grid)
        except DataError as error:
            self.problems.append(str(error))

    def _pixel_field(self, role: str) -> Field | None:
        if role in self.unwanted:
            return None
        named = self.names.get(role)
        if named is not None:
            found = self.store.find(named)
            if found is None:
                self.problems.append(self._absent(role, named))
            return found
        if role in NOISE_ROLES and (self.mapping.makes_errors or any(each in self.names for each in NOISE_ROLES)):
            return None
        taken = {self.names[each] for each in self.names}
        for usual in USUAL_NAMES[role]:
            found = self.store.find(usual)
            if found is not None and found.item.name not in taken and (found.shape or found.item.is_ragged):
                return found
        return None

    def _only_image(self, fields: dict[str, Field | None]) -> Field | None:
        """Return the one image of a FITS file that is nothing else."""
        if "flux" in self.names:
            return None
        taken = {each.item.place for each in fields.values() if each is not None}
        images = {item.place: item for item in self.store.items.values() if item.is_image and item.place not in taken}
        return Field(self.store, next(iter(images.values()))) if len(images) == 1 else None

    def _noise_role(self, fields: dict[str, Field | None]) -> str:
        named = [role for role in NOISE_ROLES if role in self.names]
        if len(named) > 1:
            self.problems.append(f"--column {' '.join(f'{role}=...' for role in named)}: name one of them")
        if self.mapping.makes_errors:
            if named:
                self.problems.append(f"--column {named[0]}=... and --assume-snr or --measure-noise: give one of them")
            return ""
        for role in ("ivar", "error", "variance"):
            if fields[role] is not None:
                return role
        if not named:
            text = (
                "errors: no array with a usual name; name it: --column error=NAME (standard deviation), ivar=NAME or "
                "variance=NAME. If there are none, --assume-snr 50 gives each spectrum constant errors, "
                "--measure-noise measures them in the flux"
            )
            self.problems.append(text)
        return ""

    def _wavelengths(self, flux: Field | None, found: Field | None) -> tuple[Field | None, HeaderAxis | None, Scale]:
        given, medium = self.mapping.wavelength_unit, self.mapping.medium
        try:
            if found is not None:
                scale = scale_of_column(found.item.name, found.item.unit, given, medium, LOGARITHMS)
                scale.to_vacuum_aa(np.array([1.0]))
                return found, None, scale
            axis = axis_of_header(self._cards(flux), given, medium) if flux is not None else None
            if axis is not None:
                axis.scale.to_vacuum_aa(np.array([1.0]))
                return None, axis, axis.scale
        except DataError as error:
            self.problems.append(str(error))
            return None, None, Scale()
        if "wavelength" not in self.names:
            header = (
                " and no CRVAL and CDELT in the header of the flux" if flux is not None and flux.item.is_image else ""
            )
            self.problems.append(f"wavelength: no array with a usual name{header}; name it: --column wavelength=NAME")
        return None, None, Scale()

    def _cards(self, flux: Field) -> Any:
        is_columns = self.mapping.along == "columns" and len(flux.shape) == 2
        return self.store.axis(flux.item, len(flux.item.shape) - (2 if is_columns else 1))

    def _labels(self, layout: Layout | None) -> dict[str, Label]:
        labels: dict[str, Label] = {}
        wanted = {ours: theirs for ours, theirs in self.names.items() if ours not in PIXEL_ROLES}
        for ours in [*wanted, *self.mapping.values]:
            if ours in RESERVED:
                self.problems.append(f"--column {ours}=...: hpctrain fills {ours} itself; choose another name")
        for ours, theirs in wanted.items():
            label = self._label(ours, theirs)
            if label is not None and layout is not None and label.field is not None:
                problem = fits_labels(ours, label.field, layout.arrangement)
                if problem:
                    self.problems.append(problem)
            if label is not None:
                labels[ours] = label
        labels |= {ours: Label(f"'{value}' (--value)", value=value) for ours, value in self.mapping.values.items()}
        for ours, usual in USUAL_LABELS.items() if layout is not None else ():
            if ours not in labels and ours not in self.unwanted:
                found = next((each for each in map(self.store.find, usual) if each is not None), None)
                if found is not None and not fits_labels(ours, found, layout.arrangement):
                    labels[ours] = Label(found.name, found, unit=found.item.unit)
        return labels

    def _label(self, ours: str, theirs: str) -> Label | None:
        if theirs.lower().startswith(HEADER):
            keyword = theirs[len(HEADER) :]
            value = self.store.header_value(keyword)
            if value is None:
                near = difflib.get_close_matches(keyword.upper(), [key.upper() for key in self.store.header], n=3)
                there = f"did you mean {', '.join(near)}?" if near else _keywords(self.store)
                self.problems.append(f"--column {ours}={theirs}: the header has no {keyword}; {there}")
                return None
            return Label(theirs, value=value)
        found = self.store.find(theirs)
        if found is None:
            self.problems.append(self._absent(ours, theirs))
            return None
        return Label(found.name, found, unit=found.item.unit)

    def _absent(self, ours: str, theirs: str) -> str:
        near = difflib.get_close_matches(theirs, [item.name for item in unique_items(self.store)], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"--column {ours}={theirs}: no such name in this {self.store.kind} file{hint}"


def _keywords(store: Store) -> str:
    return f"it has {', '.join(list(store.header)[:40])}" if store.header else "the file has no header"
