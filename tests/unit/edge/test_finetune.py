"""Fine-tuning is the run's own training, shorter and gentler, in one process."""

from __future__ import annotations

from pathlib import Path

from hpctrain.edge.finetune import finetune_profile
from hpctrain.profile.families import profile_class
from hpctrain.profile.load import dump_profile, load_profile


def run_profile(**train):
    return profile_class()(
        name="desi",
        launch={"nodes": 2, "gpus_per_node": 4},
        data={"files": ["/data/spectra.h5"]},
        train={"batch_size": 128, "accumulation": 2, "learning_rate": 1e-3, "warmup_steps": 500} | train,
        checkpoint={"every_steps": 1000, "keep_every_steps": 4000},
        edge={"export_at_end": "int8"},
        track={"mlflow": {"tracking_uri": "https://mlflow.example.org"}, "wandb": {}},
    )


def tuned(profile, steps=100):
    return finetune_profile(profile, profile.model, Path("/pruned"), steps, 40_000, keep_zeros=True)


def test_the_global_batch_is_that_of_the_cluster_in_one_process():
    for profile in (run_profile(), run_profile(global_batch=2048)):
        found = tuned(profile)
        assert found.global_batch == profile.global_batch == 2048
        assert found.launch.world_size == 1
        assert found.accumulation == 16


def test_it_is_as_long_as_asked_and_starts_low():
    found = tuned(run_profile(early_stopping={"patience": 2}, freeze=["encoder.*"]))
    train = found.train
    assert (train.max_steps, train.epochs) == (100, 6)  # 100 x 2048 of 40,000 spectra
    assert train.learning_rate == 2e-4
    assert train.final_learning_rate <= train.learning_rate
    assert train.warmup_steps == 10
    assert (train.init_from, train.keep_zeros) == ("/pruned", True)
    assert train.early_stopping is None
    assert train.freeze == []  # a pruned network has to learn to do without the rest
    assert found.checkpoint.every_steps <= 100


def test_it_does_not_export_at_its_own_end_and_goes_to_no_tracker():
    found = tuned(run_profile())
    assert found.edge.export_at_end is None
    assert found.track.mlflow is None
    assert found.track.wandb is None


def test_its_profile_survives_a_file(tmp_path):
    found = tuned(run_profile())
    (tmp_path / "profile.yaml").write_text(dump_profile(found))
    assert load_profile(tmp_path / "profile.yaml") == found
