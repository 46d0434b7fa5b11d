"""Target ids: rows of one object on the sky share one, so that a split never parts them."""

from __future__ import annotations

import numpy as np

from hpctrain.ingest.identifiers import ids_from_values, position_ids


def ids(ra: list[float], dec: list[float], age: list[int] | None = None) -> list[int]:
    """Return position ids with row numbers as fallback."""
    count = len(ra)
    return position_ids(np.array(ra), np.array(dec), np.array(age or range(count)), -np.arange(1, count + 1)).tolist()


def test_the_id_reads_as_the_position() -> None:
    assert ids([112.04723], [40.351365]) == [112047_130351]


def test_repeats_within_two_arcsec_share_the_id_of_the_oldest() -> None:
    first, second, other = ids([150.0004, 150.0006, 150.1], [2.0, 2.0, 2.0], age=[9, 1, 5])
    assert first == second == 150001_092000
    assert other != first


def test_a_cell_border_does_not_part_repeats() -> None:
    assert len(set(ids([10.00049999, 10.00050001], [0.0, 0.0]))) == 1


def test_right_ascension_wraps_around() -> None:
    assert len(set(ids([359.99999, 0.00001], [5.0, 5.0]))) == 1


def test_near_the_pole_distance_is_counted_on_the_sky() -> None:
    assert len(set(ids([10.0, 40.0], [89.9999, 89.9999]))) == 1


def test_rows_without_a_position_keep_their_fallback() -> None:
    assert ids([np.nan, 10.0], [1.0, np.nan]) == [-1, -2]
    assert ids([], []) == []


def test_two_hundred_epochs_of_one_object_are_one_object() -> None:
    ra = 213.7 + np.concatenate([np.zeros(200), np.linspace(1, 2, 50)])
    assert len(set(ids(ra.tolist(), [52.0] * 250))) == 51


def test_an_id_does_not_change_when_later_observations_are_added() -> None:
    before = ids([30.0], [1.0], age=[1])
    assert ids([30.0003, 30.0], [1.0, 1.0], age=[2, 1])[1] == before[0]


def test_identifiers_may_be_numbers_strings_or_names() -> None:
    assert ids_from_values(np.array([5, -7])).tolist() == [5, -7]
    assert ids_from_values(np.array([b"39633559463397282 ", b"12"])).tolist() == [39633559463397282, 12]
    big = 11997690149582688256
    assert ids_from_values(np.array([str(big)])).tolist() == [big - 2**64]
    assert ids_from_values(np.array([big], dtype=np.uint64)).tolist() == [big - 2**64]
    names = ids_from_values(np.array(["J1234+56", "J1234+57", "J1234+56"], dtype=object))
    assert names[0] == names[2] != names[1]
    assert (names >= 0).all()
