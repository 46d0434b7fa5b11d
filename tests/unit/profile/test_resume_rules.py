"""The one table of what may change when a run is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import TINY, profile_values

from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.profile.families import profile_class, profile_of
from hpctrain.profile.load import load_profile
from hpctrain.profile.resume import changes_by_a_user, differences, fixed_keys, misfits, plain, reason_to_refuse

PROFILE = profile_class()(name="run", data=SpectraSection(files=["a.h5"]))


@pytest.fixture
def changed(tmp_path):
    """Return a function that returns the profile with other values."""
    file = tmp_path / "profile.yaml"
    file.write_text("name: run\ndata: {files: [a.h5]}\n")
    return lambda *overrides: load_profile(file, overrides)


@pytest.mark.parametrize("name", ["trees", "image_cnn", "light_curve_transformer"])
def test_the_keys_of_data_that_a_card_holds_stay_as_the_run_began(name):
    """The card of a catalogue, images or light curves holds keys of `data` under the name of the kind."""
    profile = profile_of(profile_values(TINY[name], Path("a.h5")))
    [(kind, entry)] = profile.data.card_entries.items()
    assert misfits(profile, profile, {kind: entry}) == []
    key = next(key for key in entry if f"data.{key}" in fixed_keys(profile))
    assert [change.key for change in misfits(profile, profile, {kind: {**entry, key: "other"}})] == [f"data.{key}"]


def test_every_key_of_the_table_is_a_key_of_the_profile():
    for key in fixed_keys(PROFILE):
        values = plain(PROFILE)
        for part in key.split("."):
            assert part in values, key
            values = values[part]


@pytest.mark.parametrize(
    "override",
    [
        "model.latent_size=3",
        "model.encoder_hidden=[8]",
        "model.encoder=convolutional",
        "model.rest_pixels=900",
        "data.split.validation=0.2",
        "data.split={salt: other}",
        "data.normalise.min_snr=1",
        "data.max_spectra=10",
        "data.shuffle_window=10",
        "data.simulate={num_spectra: 9}",
        "train.seed=4",
        "train.freeze=[encoder.*]",
        "train.ema_decay=0.99",
        "train.init_from=/other",
        "name=other",
    ],
)
def test_what_the_checkpoint_depends_on_cannot_change(changed, override):
    found = misfits(changed(), changed(override), {})
    assert [change.key.split("=")[0] for change in found], override
    assert all(override.startswith(change.key) or change.key.startswith(override.split("=")[0]) for change in found)


@pytest.mark.parametrize(
    "override",
    [
        "train.learning_rate=1e-4",
        "train.epochs=200",
        "train.max_steps=50",
        "train.weight_decay=0",
        "train.early_stopping={patience: 3}",
        "train.precision=bf16",
        "model.dropout=0.2",
        "model.beta=0.5",
        "data.files=[/moved/a.h5]",
        "data.augment.noise=0.1",
        "launch.nodes=2",
        "launch.time_limit=1:00:00",
        "checkpoint.every_steps=10",
        "edge.export_at_end=int8",
        "description=better",
    ],
)
def test_everything_else_can_change(changed, override):
    assert misfits(changed(), changed(override), {}) == []


def test_the_card_of_the_model_knows_better_than_a_profile_that_was_edited(changed):
    card = {"section": {**plain(PROFILE)["model"], "latent_size": 6}, "seed": 1}
    (found,) = misfits(changed("model.latent_size=3"), changed("model.latent_size=3"), card)
    assert (found.key, found.old, found.new) == ("model.latent_size", 6, 3)
    assert misfits(changed("model.latent_size=3"), changed("model.latent_size=6"), card) == []


def test_a_rest_grid_that_the_first_attempt_computed_is_no_change(changed):
    card = {"section": {**plain(PROFILE)["model"], "rest_pixels": 900, "rest_wavelength_aa": [3000.0, 9000.0]}}
    assert misfits(changed(), changed(), card) == []
    assert [change.key for change in misfits(changed(), changed("model.rest_pixels=901"), card)] == [
        "model.rest_pixels"
    ]


def test_a_section_that_is_switched_on_is_one_change(changed):
    (change,) = differences(plain(changed()), plain(changed("train.early_stopping={patience: 3}")))
    assert (change.key, change.old) == ("train.early_stopping", None)
    assert change.new["patience"] == 3


def test_what_the_trainer_settles_is_no_change_by_a_user(changed):
    auto = changed("train.batch_size=auto", "train.global_batch=64")
    settled = auto.with_update_shape(auto.update_shape.with_micro_batch(16))
    warm = settled.model_copy(update={"train": settled.train.model_copy(update={"warmup_steps": 40})})
    assert changes_by_a_user(plain(auto), plain(warm)) == []
    more_ranks = changed("launch.gpus_per_node=2", "train.batch_size=16", "train.accumulation=2")
    fewer_ranks = changed("launch.gpus_per_node=1", "train.batch_size=16", "train.accumulation=4")
    assert [change.key for change in changes_by_a_user(plain(more_ranks), plain(fewer_ranks))] == [
        "launch.gpus_per_node"
    ]


def test_a_reason_holds_for_all_keys_of_a_section():
    assert reason_to_refuse(PROFILE, "data.split.salt") == fixed_keys(PROFILE)["data.split"]
    assert reason_to_refuse(PROFILE, "data.files") is None
