"""What a mapping makes of the first files, in words, before ten thousand are read."""

from __future__ import annotations

import itertools
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.block import COLUMNS
from hpctrain.ingest.mapped.convert import Converted, Raw, convert
from hpctrain.ingest.mapped.labels import ours_from_theirs
from hpctrain.ingest.mapped.mapping import Mapping
from hpctrain.ingest.mapped.reader import spectra_with_labels
from hpctrain.ingest.mapped.resolve import Layout, resolve
from hpctrain.ingest.mapped.stores.opening import open_stores
from hpctrain.ingest.mapped.stores.store import Store, shape_text, unique_items
from hpctrain.ingest.mapped.suspicions import Suspicion, suspect_arms, suspect_flux, suspect_noise, suspect_wavelengths
from hpctrain.ingest.mapped.units import RELATIVE
from hpctrain.ingest.tally import lines_by_reason
from hpctrain.kinds.spectra.layout import FLUX_UNIT

MOST_FILES = 8
"""Files that the preview reads: enough spectra to judge their noise by, and quick."""

MOST_TRIED, MOST_PARTS, MOST_PROBLEMS = 40, 2, 10
MOST_KEYWORDS = 40
VALUES_SHOWN = 4
STRUCTURAL = (
    "SIMPLE", "NAXIS", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "TUNIT", "EXTEND", "CHECKSUM",
    "DATASUM",
)  # fmt: skip
"""Keywords that only say how a file is built."""


@dataclass
class Preview:
    """What was understood of the first files.

    Parameters
    ----------
    lines : list of str
        In short; empty if no file can be read in this way.
    offers : list of str
        What else the first file has.
    problems : list of str
        Why files cannot be read in this way.
    suspicions : list of Suspicion
    flux_unit : str
        Of the output.
    meanings : dict of (str, str)
        Unit and description of the columns that are carried along.
    """

    lines: list[str] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)
    flux_unit: str = FLUX_UNIT
    meanings: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class _Sample:
    """The first spectra of one file."""

    layout: Layout
    raw: Raw
    converted: Converted
    labels: dict[str, np.ndarray]


def preview_files(kind: str, paths: Sequence[Path], mapping: Mapping) -> Preview:
    """Read the first spectra of some files, and say how they are understood.

    Parameters
    ----------
    kind : {"fits", "hdf5", "table", "any"}
    paths : sequence of Path
    mapping : Mapping

    Returns
    -------
    Preview
    """
    preview, samples, of_first = Preview(), [], 0
    failures: list[tuple[str, str]] = []
    for path in paths[:MOST_TRIED]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for store in itertools.islice(open_stores(kind, path, mapping), MOST_PARTS):
                    if not preview.offers:
                        preview.offers = _offers(path, store)
                    sample = _first_spectra(store, mapping)
                    if not samples:
                        preview.offers = _offers(path, store)
                        preview.lines = _lines(path, len(paths), store, sample, mapping)
                    samples.append(sample)
        except DataError as error:
            failures.append((str(path), str(error)))
        except (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            failures.append((str(path), f"cannot be read: {type(error).__name__}: {error}"))
        of_first = of_first or len(samples)
        if len(samples) >= MOST_FILES:
            break
    if samples:
        _judge(preview, samples, of_first)
    else:
        preview.problems = [line.replace("\n", "\n  ") for line in lines_by_reason(failures, 1)[:MOST_PROBLEMS]]
    return preview


def _first_spectra(store: Store, mapping: Mapping) -> _Sample:
    layout = resolve(store, mapping)
    raw, labels = next(spectra_with_labels(layout))
    columns = ours_from_theirs(labels, layout.labels, mapping.missing)
    return _Sample(layout, raw, convert(raw, layout, mapping), columns)


def _judge(preview: Preview, samples: list[_Sample], of_first: int) -> None:
    """Add what is doubtful about the samples, of which the first `of_first` are parts of one file."""
    first = samples[0]
    preview.flux_unit = RELATIVE if first.layout.flux_scale.is_relative else FLUX_UNIT
    for ours, label in first.layout.labels.items():
        if ours not in COLUMNS:
            preview.meanings[ours] = (label.unit, f"from {label.source}")
    if "name" in first.labels and "name" not in preview.meanings:
        preview.meanings["name"] = ("", f"the object, from {first.layout.labels['target_id'].source}")
    found = [
        suspect_wavelengths(first.raw.wavelength, first.layout),
        suspect_flux(first.converted, first.layout),
        suspect_noise([(sample.raw, sample.layout) for sample in samples]),
        suspect_arms([sample.raw for sample in samples[:of_first]]),
    ]
    preview.suspicions = [each for each in found if each is not None]


def _lines(path: Path, num_files: int, store: Store, sample: _Sample, mapping: Mapping) -> list[str]:
    layout, converted = sample.layout, sample.converted
    which = f"the first of {num_files:,} files" if num_files > 1 else "1 file"
    flux_unit = layout.flux_scale.unit.strip()
    if not layout.flux_scale.is_relative:
        flux_text = f"{flux_unit} -> {FLUX_UNIT}"
    elif layout.flux_scale.is_known:
        flux_text = f"{flux_unit}: kept as a relative flux"
    else:
        flux_text = "no unit: kept as a relative flux (--flux-unit states one)"
    lines = [
        f"{path} ({which}): {store.kind}",
        *([f"  note           {store.advice}"] if store.advice else []),
        f"  flux           {_named(layout.flux)}; {flux_text}",
        f"  errors         {_errors_text(layout, mapping)}",
        *(f"  {role:<14} {field.name} ({'nonzero is bad' if role == 'mask' else 'zero is bad'})"
          for role, field in layout.masks.items()),
        f"  wavelength     {_wavelength_text(layout)}",
        f"  spectra        {_spectra_text(layout, converted)}",
    ]  # fmt: skip
    for ours in ("target_id", "redshift"):
        if ours not in layout.labels:
            made = "made of file name and row" if ours == "target_id" else "unknown (NaN)"
            lines.append(f"  {ours:<14} none: {made}; --column {ours}=NAME")
    lines += [f"  {ours:<14} {_label_text(sample, ours)}" for ours in layout.labels]
    if converted.reason:
        lines.append(f"  unusable       {converted.reason}")
    else:
        lines.append(f"  values         {_values_text(converted)}")
    return lines


def _named(each: object) -> str:
    return f"{each.name} ({' x '.join(map(str, each.shape)) or 'one value'})"


def _errors_text(layout: Layout, mapping: Mapping) -> str:
    if layout.noise is None:
        if mapping.measure_noise:
            return "none: measured in the flux (--measure-noise)"
        return f"none: the same for all pixels of a spectrum, S/N {mapping.assumed_snr:g} (--assume-snr)"
    meaning = {"error": "standard deviation", "ivar": "inverse variance", "variance": "variance"}[layout.noise_role]
    return f"{_named(layout.noise)}, the {meaning}"


def _wavelength_text(layout: Layout) -> str:
    scale = layout.scale
    source = layout.axis.text if layout.axis is not None else _named(layout.wavelength)
    where = f"header of {layout.flux.item.name}: {source}" if layout.axis is not None else source
    unit = f"{scale.logarithm}({scale.unit})" if scale.logarithm else scale.unit
    unit += "" if scale.unit_known else " (assumed; --wavelength-unit)"
    if scale.is_air:
        medium = "air -> vacuum (Ciddor 1996)"
    else:
        medium = "vacuum" if scale.medium_known else "vacuum (assumed; --air)"
    return f"{where}; {unit}; {medium}"


def _spectra_text(layout: Layout, converted: Converted) -> str:
    text = layout.arrangement.text
    if layout.arrangement.num_spectra > 1:
        text = f"{layout.arrangement.num_spectra:,}, {text}"
    wavelength = converted.wavelength_aa
    if not len(wavelength):
        return text
    return f"{text}; {len(wavelength):,} pixels from {wavelength[0]:.2f} to {wavelength[-1]:.2f} AA in vacuum"


def _label_text(sample: _Sample, ours: str) -> str:
    shown_as = "name" if ours == "target_id" and "name" in sample.labels else ours
    values = sample.labels[shown_as][:VALUES_SHOWN]
    shown = ", ".join(_plain(value) for value in values)
    more = ", ..." if len(sample.labels[ours]) > VALUES_SHOWN else ""
    return f"{sample.layout.labels[ours].source}: {shown}{more}"


def _values_text(converted: Converted) -> str:
    flux, ivar = converted.flux[0], converted.ivar[0]
    good = (ivar > 0) & np.isfinite(flux)
    middle = np.flatnonzero(good)
    if not len(middle):
        return "the first spectrum has no good pixel"
    begin = middle[len(middle) // 2]
    shown = " ".join(f"{value:.4g}" for value in flux[begin : begin + VALUES_SHOWN])
    snr = float(np.median(np.abs(flux[good]) * np.sqrt(ivar[good])))
    return (
        f"flux at {converted.wavelength_aa[begin]:.1f} AA: {shown} ...; median S/N per pixel {snr:.1f}; "
        f"{good.mean():.0%} of the pixels good"
    )


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace") or "''"
    return f"{value:.8g}" if isinstance(value, (float, np.floating)) else str(value)


def _offers(path: Path, store: Store) -> list[str]:
    """Return lines on all that a file has: names, shapes, units, and the first keywords of its header."""
    by_shape: dict[str, list[str]] = {}
    for item in unique_items(store):
        by_shape.setdefault(shape_text(item), []).append(f"{item.name} [{item.unit}]" if item.unit else item.name)
    lines = [f"{path} has"]
    for shape, names in by_shape.items():
        lines += _wrapped(f"  {shape}: ", ", ".join(names))
    words = [
        f"{key}={str(value).strip()[:100]}"
        for key, value in store.header.items()
        if not key.startswith(STRUCTURAL) and isinstance(value, (str, int, float))
    ]
    if words:
        lines.append("and in its header (--column OURS=header:KEYWORD)")
        lines += _wrapped("  ", ", ".join(words[:MOST_KEYWORDS]) + (", ..." if len(words) > MOST_KEYWORDS else ""))
    return lines


def _wrapped(begin: str, text: str) -> list[str]:
    return textwrap.wrap(text, 116, initial_indent=begin, subsequent_indent="      ", break_on_hyphens=False)
