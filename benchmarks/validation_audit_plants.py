"""Leaks to plant in simulated data; benchmarks/validation_audit.py audits them, and so do the tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Columns = dict[str, np.ndarray]
Plant = Callable[[Columns, np.random.Generator], None]

NUM_COPIES = 40
"""Rows that get what belongs to another row; with a fifth held out, a third of them end on the other side."""

BANDS = ["u", "g", "r", "i", "z"]
ERRORS = {band: f"{band}_err" for band in BANDS}
CURVE_COLUMNS = ("time", "value", "error", "band")


def some_pairs(columns: Columns, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that are copied, and other rows that get the copies."""
    chosen = rng.permutation(len(columns["target_id"]))[: 2 * NUM_COPIES]
    return chosen[:NUM_COPIES], chosen[NUM_COPIES:]


def close_positions(columns: Columns, rng: np.random.Generator) -> None:
    """Put objects within 0.5 arcsec of others."""
    source, target = some_pairs(columns, rng)
    for name, scale in (("ra", 1 / np.cos(np.radians(columns["dec"][source]))), ("dec", 1.0)):
        columns[name][target] = columns[name][source] + rng.normal(0, 0.15 / 3600, NUM_COPIES) * scale


def numbers_of_rows(columns: Columns, rng: np.random.Generator) -> None:
    """Number the rows, although some objects are listed twice."""
    close_positions(columns, rng)
    columns["target_id"] = np.arange(len(columns["target_id"]))


def no_ids(columns: Columns, rng: np.random.Generator) -> None:
    """Give a third of the rows the identifier -1."""
    columns["target_id"][rng.random(len(columns["target_id"])) < 0.33] = -1


def rounded_ids(columns: Columns, rng: np.random.Generator) -> None:
    """Write 60-bit identifiers through float64."""
    ids = rng.integers(2**59, 2**60, len(columns["target_id"]))
    columns["target_id"] = ids.astype(np.float64).astype(np.int64)


def copies(names: Callable[[Columns], list[str]]) -> Plant:
    """Return a plant that copies the inputs of rows."""

    def plant(columns: Columns, rng: np.random.Generator) -> None:
        source, target = some_pairs(columns, rng)
        for name in names(columns):
            columns[name][target] = columns[name][source]

    return plant


def changed_copies(names: Callable[[Columns], list[str]], change: Callable[..., None]) -> Plant:
    """Return a plant that copies the inputs of rows and then changes the copies."""

    def plant(columns: Columns, rng: np.random.Generator) -> None:
        source, target = some_pairs(columns, rng)
        for name in names(columns):
            columns[name][target] = columns[name][source]
        change(columns, target, rng)

    return plant


def flip_a_bit(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return float32 values (n, ...) with one bit of one number of each row changed."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(len(values), -1).copy()
    bits = flat.view(np.uint32)
    at = rng.integers(0, flat.shape[1], len(flat))
    bits[np.arange(len(flat)), at] ^= np.uint32(1) << rng.integers(0, 32, len(flat)).astype(np.uint32)
    return flat.reshape(values.shape)


def label_with_noise(columns: Columns, rng: np.random.Generator) -> None:
    """Hide the redshift in a column that is read."""
    columns["u_err"] = (columns["redshift"] * (1 + rng.normal(0, 0.01, len(columns["redshift"])))).astype(np.float32)


def class_as_number(columns: Columns, rng: np.random.Generator) -> None:
    """Hide the class in a column that is read."""
    number = np.unique(columns["class"], return_inverse=True)[1]
    columns["u_err"] = (number + rng.normal(0, 0.05, len(number))).astype(np.float32)


def scaled_columns(columns: Columns, rng: np.random.Generator) -> None:
    """Scale magnitudes with the mean and scatter of all rows."""
    for band in BANDS:
        values = columns[band].astype(np.float64)
        known = values > -100
        values = (values - values[known].mean()) / values[known].std()
        columns[band] = np.where(known, values, -9999.0).astype(np.float32)


def rounded_table(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
    """Write the copies with five digits, as a table of text does."""
    for name in [*BANDS, *ERRORS.values()]:
        columns[name][target] = np.round(columns[name][target], 4)


def flipped_table(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
    """Change a bit of one magnitude of each copy."""
    table = np.stack([columns[name][target] for name in BANDS], axis=1)
    for name, values in zip(BANDS, flip_a_bit(table, rng).T, strict=True):
        columns[name][target] = values


def _sigma(columns: Columns, target: np.ndarray) -> np.ndarray:
    ivar = columns["ivar"][target]
    return np.where(ivar > 0, 1 / np.sqrt(np.where(ivar > 0, ivar, 1)), 0)


def wide_changes(value: str) -> dict[str, Callable[..., None]]:
    """Return the changes of copies of spectra or images, whose values are in the column `value`."""

    def scaled(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
        columns[value][target] *= 1.3
        columns["ivar"][target] /= 1.3**2

    def noisier(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
        sigma = _sigma(columns, target)
        columns[value][target] += (0.2 * sigma * rng.normal(size=sigma.shape)).astype(np.float32)

    def flipped(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
        columns[value][target] = flip_a_bit(columns[value][target], rng)

    def reduced_again(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
        shape = columns[value][target].shape
        flat = columns[value][target].reshape(len(target), -1)
        place = np.linspace(-1, 1, flat.shape[1])
        tilt = 1 + 0.1 * rng.normal(size=(len(target), 1)) * place + 0.05 * rng.normal(size=(len(target), 1)) * place**2
        sigma = _sigma(columns, target).reshape(flat.shape)
        columns[value][target] = (flat * tilt + 0.2 * sigma * rng.normal(size=flat.shape)).reshape(shape)

    changes = {"scaled": scaled, "a little noise": noisier, "one flipped bit": flipped}
    return changes | ({"reduced again": reduced_again} if value == "flux" else {})


def curve_changes() -> dict[str, Callable[..., None]]:
    """Return the changes of copies of light curves, whose points (4, n) are in the column `points`."""

    def change(how: Callable[[np.ndarray, np.random.Generator], None]) -> Callable[..., None]:
        def apply(columns: Columns, target: np.ndarray, rng: np.random.Generator) -> None:
            for row in target.tolist():
                columns["points"][row] = columns["points"][row].copy()
                how(columns["points"][row], rng)

        return apply

    def scaled(points: np.ndarray, rng: np.random.Generator) -> None:
        points[1:3] *= 1.3

    def noisier(points: np.ndarray, rng: np.random.Generator) -> None:
        points[1] += 0.2 * points[2] * rng.normal(size=points.shape[1])

    def flipped(points: np.ndarray, rng: np.random.Generator) -> None:
        points[1] = flip_a_bit(points[1][None], rng)[0]

    return {"scaled": change(scaled), "a little noise": change(noisier), "one flipped bit": change(flipped)}


def _inputs(kind: str) -> Callable[[Columns], list[str]]:
    names = {"catalogue": [*BANDS, *ERRORS.values()], "light_curves": ["points"], "spectra": ["flux", "ivar"]}
    return lambda columns: names.get(kind, ["image", "ivar"])


def plants_of(kind: str) -> dict[str, tuple[Plant, set[str]]]:
    """Return leaks that can be planted in one file: the plant, and the codes of which one has to be found."""
    inputs = _inputs(kind)
    value = {"spectra": "flux", "images": "image"}.get(kind)
    changes = wide_changes(value) if value else curve_changes()
    if kind == "catalogue":
        changes = {"rounded": rounded_table, "one flipped bit": flipped_table}
    found: dict[str, tuple[Plant, set[str]]] = {
        "close positions": (close_positions, {"same-position"}),
        "numbers of rows": (numbers_of_rows, {"row-numbers"}),
        "no identifiers": (no_ids, {"one-id-for-many"}),
        "rounded identifiers": (rounded_ids, {"rounded-ids"}),
        "copies": (copies(inputs), {"duplicate"}),
    }
    for name, change in changes.items():
        found[f"copies, {name}"] = (changed_copies(inputs, change), {"near-duplicate"})
    if kind == "catalogue":
        found["redshift in a column"] = (label_with_noise, {"label-in-column"})
        found["class in a column"] = (class_as_number, {"label-in-column"})
        found["scaled with all rows"] = (scaled_columns, {"scaled-with-held-out"})
    return found
