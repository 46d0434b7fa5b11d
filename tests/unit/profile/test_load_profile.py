"""YAML text to a typed profile and back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpctrain.credentials.patterns import is_secret_value
from hpctrain.errors import ProfileError
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.sections.base import parse_time_limit_s
from hpctrain.profile.yaml_text import MAX_VALUES, parse_value, parse_yaml, read_scalar

MINIMAL = "name: run\ndata: {files: [spectra.h5]}\n"


def write(folder: Path, text: str, name: str = "profile.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24:00:00", "24:00:00"),
        ("1-12:30:00", "1-12:30:00"),
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("5E4", 50000.0),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("1__0", "1__0"),
        ("9" * 400, "9" * 400),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, expected: Any) -> None:
    """YAML 1.1 reads the first one as 86400, the third as text and the eighth as 8."""
    found = read_scalar(text)
    assert found == expected
    assert type(found) is type(expected)


def test_a_time_limit_is_read_as_a_time(tmp_path: Path) -> None:
    """The trap that made PyYAML's number 86400 a limit of sixty days."""
    profile = load_profile(write(tmp_path, MINIMAL + "launch: {time_limit: 24:00:00}\n"))
    assert profile.launch.time_limit == "24:00:00"
    minutes = load_profile(write(tmp_path, MINIMAL + "launch: {time_limit: 90}\n"))
    assert minutes.launch.time_limit == "01:30:00"


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:01", 1), ("24:00", 86400), ("2-00:00:00", 172800), (90, 5400), ("120:30:15", 433815)]
)
def test_time_limits_are_what_they_say(text: str | int, seconds: int) -> None:
    """Hours and minutes, not sbatch's minutes and seconds."""
    assert parse_time_limit_s(text) == seconds


def test_yes_and_no_are_switches_where_a_switch_is_meant_and_text_elsewhere(tmp_path: Path) -> None:
    """Norway's partition stays NO."""
    text = MINIMAL + "launch: {partition: no, requeue: no}\ncheckpoint: {keep_best: on, asynchronous: Yes}\n"
    profile = load_profile(write(tmp_path, text))
    assert profile.launch.partition == "no"
    assert (profile.launch.requeue, profile.checkpoint.keep_best, profile.checkpoint.asynchronous) == (
        False,
        True,
        True,
    )


def test_an_empty_section_is_a_section_of_defaults(tmp_path: Path) -> None:
    """Whoever comments out the last key of a section leaves it empty."""
    profile = load_profile(write(tmp_path, MINIMAL + "train:\n  # epochs: 3\nlaunch:\n"))
    assert profile == load_profile(write(tmp_path, MINIMAL))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Windows editors write one."""
    path = tmp_path / "profile.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_profile(path).name == "run"


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    """They are part of YAML; what is given beside the merge wins."""
    text = "name: run\ndata: {files: [spectra.h5], split: &a {validation: 0.2, salt: x}}\n"
    profile = load_profile(write(tmp_path, text.replace("&a {", "&a {<<: {test: 0.1, salt: y}, ")))
    assert (profile.data.split.test, profile.data.split.salt) == (0.1, "x")


def test_bases_are_merged_by_key_and_lists_replaced(tmp_path: Path) -> None:
    """Three files deep, each relative to the one that names it."""
    (tmp_path / "deep").mkdir()
    write(tmp_path, "train: {epochs: 3, seed: 7}\nmodel: {encoder_hidden: [9, 9, 9]}\nlaunch:\n", "deep/first.yaml")
    write(tmp_path, "extends: deep/first.yaml\ntrain: {epochs: 5}\ndata: {simulate: {seed: 2}}\n", "second.yaml")
    text = "extends: second.yaml\n" + MINIMAL.replace("}", ", simulate: null}") + "model: {encoder_hidden: [4]}\n"
    profile = load_profile(write(tmp_path, text))
    assert (profile.train.epochs, profile.train.seed) == (5, 7)
    assert profile.model.encoder_hidden == [4]
    assert profile.data.simulate is None


def test_overrides_reach_sections_lists_and_what_was_absent(tmp_path: Path) -> None:
    """The value is YAML, and the last one wins."""
    overrides = [
        "train.batch_size=64",
        "train.batch_size=32",
        "data.files.0=a=b.h5",
        "data.simulate.num_spectra=10",
        "model.encoder_hidden=[8, 4]",
        "train.clip_norm=",
        "launch.time_limit=12:00:00",
        "train.learning_rate=3e-4",
    ]
    profile = load_profile(write(tmp_path, MINIMAL), overrides)
    assert profile.train.batch_size == 32
    assert profile.data.files == ["a=b.h5"]
    assert profile.data.simulate is not None
    assert profile.data.simulate.num_spectra == 10
    assert profile.model.encoder_hidden == [8, 4]
    assert profile.train.clip_norm is None
    assert profile.launch.time_limit == "12:00:00"
    assert profile.train.learning_rate == 3e-4


def test_variables_are_replaced_in_paths_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths differ between machines, the science must not."""
    monkeypatch.setenv("SURVEY", "/data/$desi")
    text = "name: run\ndescription: in ${SURVEY}\ndata: {files: ['${SURVEY}/a.h5', 'b$$c.h5']}\n"
    profile = load_profile(write(tmp_path, text + "launch: {runs_dir: '${SURVEY}'}\n"))
    assert profile.data.files == ["/data/$desi/a.h5", "b$c.h5"]
    assert profile.launch.runs_dir == "/data/$desi"
    assert profile.description == "in ${SURVEY}"


def test_a_resolved_profile_is_the_same_on_a_machine_without_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again by every rank and every later attempt."""
    monkeypatch.setenv("SURVEY", "/data/$desi")
    text = MINIMAL.replace("spectra.h5", "'${SURVEY}/a.h5'")
    profile = load_profile(write(tmp_path, text))
    monkeypatch.delenv("SURVEY")
    assert load_profile(write(tmp_path, dump_profile(profile), "resolved.yaml")) == profile


def test_the_optional_mask_stays_optional_in_a_resolved_profile(tmp_path: Path) -> None:
    """A mask that was asked for must be in the file, the default one need not."""
    for text, asked in ((MINIMAL, False), (MINIMAL.replace("}", ", columns: {mask: mask}}"), True)):
        resolved = write(tmp_path, dump_profile(load_profile(write(tmp_path, text))), "resolved.yaml")
        assert ("mask" in load_profile(resolved).data.columns.model_fields_set) == asked


words = st.sampled_from(
    ["1e-3", "24:00:00", "no", "null", "~x", "010", "a b", "x: y", "# x", "- a", "'", '"', "é", "\u2028", "$x", "1_0"]
) | st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
words = words.filter(lambda text: not is_secret_value(text))
path_texts = words.filter(lambda text: not text.startswith("~"))


@pytest.mark.slow
@given(
    description=words,
    files=st.lists(path_texts, min_size=1, max_size=3),
    rate=st.floats(1e-12, 9.9),
    hidden=st.lists(st.integers(1, 10**6), max_size=4),
    limit=st.integers(1, 500_000),
    options=st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), st.integers() | st.booleans()),
    switch=st.booleans(),
)
@example("24:00:00", ["1e-3", "null", "a$b"], 1e-5, [], 1440, {"no": True, "on": False}, True)
def test_a_dumped_profile_loads_equal(
    tmp_path_factory: pytest.TempPathFactory,
    description: str,
    files: list[str],
    rate: float,
    hidden: list[int],
    limit: int,
    options: dict[str, Any],
    switch: bool,
) -> None:
    """The resolved profile is the only configuration the trainer reads: not one value may change on the way."""
    profile = profile_of(
        {
            "name": "run",
            "description": description,
            "data": {"files": files},
            "train": {"learning_rate": rate},
            "model": {"encoder_hidden": hidden},
            "launch": {"time_limit": limit, "sbatch": options, "requeue": switch},
        }
    )
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_profile(profile), encoding="utf-8")
    assert load_profile(path) == profile
    assert yaml.safe_load(dump_profile(profile))["train"]["learning_rate"] == rate  # other YAML readers agree


yaml_like = st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`?, \n\t0123456789.~<=$\\\u00e9\x85\ufeff"), max_size=80)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(text=yaml_like | st.text(max_size=60) | yaml_like.map(lambda tail: MINIMAL + "train: " + tail))
@example("? ")
@example("a: !!int x")
@example("a: !!null 3\n<<: [1]")
@example("<<: *a")
@example("&a : *a")
def test_no_text_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever is in the file, the user gets a ProfileError or a profile."""
    path = tmp_path_factory.getbasetemp() / "garbage.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ProfileError):
        load_profile(path)


@given(key=yaml_like, value=yaml_like)
@example("train", "{epochs: [1]}")
@example("data.files.0.x", "1")
@example("train.epochs", "\udc80")
@example("data.files.²", "1")
def test_no_override_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, key: str, value: str) -> None:
    """The command line is typed in a hurry."""
    path = tmp_path_factory.getbasetemp() / "minimal.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    with contextlib.suppress(ProfileError):
        load_profile(path, [f"{key}={value}"])


def test_values_of_overrides_are_yaml() -> None:
    """Lists, mappings, nothing; and nothing that goes beyond one value."""
    assert parse_value("{seed: 1}") == {"seed": 1}
    assert parse_value("a: 1") == {"a": 1}
    assert parse_value("") is None
    with pytest.raises(ValueError, match="more than one value"):
        parse_value("a\nb: 2")


def test_a_large_but_flat_list_is_no_bomb() -> None:
    """The bound is far above any honest profile."""
    document = parse_yaml("a: [" + ", ".join(["1"] * (MAX_VALUES - 10)) + "]", "x")
    assert not document.problems


def test_the_environment_is_not_changed_by_loading(tmp_path: Path) -> None:
    """Loading is pure but for the file."""
    before = dict(os.environ)
    load_profile(write(tmp_path, MINIMAL))
    assert dict(os.environ) == before
