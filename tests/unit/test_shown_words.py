"""The words that users read, and whose words they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctrain.profile.lookup import words_of_file
from hpctrain.words import Words, format_bytes, format_count, format_duration, format_short_duration

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (18420, "5 h 07 min"), (183600, "2 d 03 h"), (-4, "0 s")],
)
def test_durations_have_two_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (95, "1m35s"), (7260, "2h01m"), (200_000, "2d07h")]
)
def test_durations_in_columns_are_short(seconds, text):
    assert format_short_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(7.254, "7.25"), (842, "842"), (12345, "12.3k"), (999.9, "1k"), (4.1e6, "4.1M"), (0, "0")]
)
def test_counts_have_three_digits(value, text):
    assert format_count(value) == text


def test_sizes_are_decimal():
    assert [format_bytes(size) for size in (162e6, 512, 6.1e9)] == ["162 MB", "512 B", "6.1 GB"]


COUNTED = {"num_bad_values": "{num_bad_values} values of {num_bad_images} images have been masked"}


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        ({"num_images": 9}, []),
        ({"num_bad_values": 7, "num_bad_images": 2, "num_images": 9}, ["7 values of 2 images have been masked"]),
        ({"num_bad_values": 7, "num_images": 9}, ["7 values of ? images have been masked"]),
        ({"num_bad_values": 0, "num_dark_frames": 3, "num_images": 9}, ["3 dark frames"]),
    ],
)
def test_counts_are_described_as_the_kind_says_and_others_by_their_names(counts, texts):
    assert Words("image", "images", COUNTED).in_words(counts) == texts


def test_a_number_of_samples_is_recorded_under_their_name():
    assert Words("light curve", "light curves").count_field == "num_light_curves"


def test_a_run_is_described_in_the_words_of_its_family():
    words = words_of_file(PROFILES / "quickstart.yaml")
    assert (words.one, words.many, words.count_field) == ("spectrum", "spectra", "num_spectra")
    assert [metric.label for metric in words.metrics] == ["mean chi²", "KL"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "model: {family: no_such_family}", "model: {family: no_such_package.module}", "model: {family: [a]}",
        "model: [1]", "model: {family: 7}", "model: {family: json.decoder}", "{" * 100, "a: \0",
    ],
)  # fmt: skip
def test_a_family_that_cannot_be_found_here_gets_general_words(tmp_path, text):
    (tmp_path / "profile.yaml").write_text(text)
    assert words_of_file(tmp_path / "profile.yaml") == Words()
    assert words_of_file(tmp_path / "no-such-file") == Words()


def test_no_planted_link_is_followed_for_words(tmp_path):
    (tmp_path / "profile.yaml").symlink_to(PROFILES / "quickstart.yaml")
    assert words_of_file(tmp_path / "profile.yaml") == Words()
