"""Models on disk: what is written can be read, and what cannot be read is said."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hpctrain.errors import CheckpointError
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import find_weights, load_model, load_weights, save_model, write_card
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.rundir import RunDir

FACTS = SpectraFacts(
    num_pixels=100, wavelength_aa=(4000.0, 9000.0), redshift_min=0.0, redshift_max=0.5, wavelength_middle_aa=6525.25
)
SECTION = SpectralVAESection(
    latent_size=2,
    encoder_channels=[4, 8],
    encoder_kernels=[5, 5],
    encoder_hidden=[8],
    decoder_hidden=[8],
    rest_wavelength_aa=(2600.0, 9100.0),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpectralVAE(SECTION, FACTS)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_a_saved_model_comes_back_bit_for_bit(tmp_path, model):
    save_model(tmp_path / "model", model, SECTION, FACTS, {"normalise": {"min_snr": 2.0}, "step": 12})
    loaded, card = load_model(tmp_path / "model")
    assert same_weights(model, loaded)
    assert not loaded.training
    assert loaded.grid == model.grid
    assert card["step"] == 12
    assert card["normalise"] == {"min_snr": 2.0}
    assert not [path for path in (tmp_path / "model").iterdir() if path.name.endswith(".tmp")]


def test_a_run_directory_gives_its_finished_model_before_any_checkpoint(tmp_path, model):
    run = RunDir.create(tmp_path, "run")
    other = SpectralVAE(SECTION, FACTS)
    save_model(run.checkpoints / "step-00000010", other, SECTION, FACTS, {})
    save_model(run.model, model, SECTION, FACTS, {})
    assert same_weights(load_model(run.path)[0], model)


def test_a_run_without_a_finished_model_gives_its_newest_checkpoint(tmp_path, model):
    run = RunDir.create(tmp_path, "run")
    write_card(run.model, SECTION, FACTS, {})
    for step, network in ((9, SpectralVAE(SECTION, FACTS)), (10, model)):
        folder = run.checkpoints / f"step-{step:08d}"
        folder.mkdir()
        save_file(network.state_dict(), folder / "model.safetensors")
    assert same_weights(load_model(run.path)[0], model)
    assert same_weights(load_model(run.path, checkpoint="10")[0], model)
    assert not same_weights(load_model(run.path, checkpoint="step-00000009")[0], model)
    assert same_weights(load_model(run.checkpoints / "step-00000010")[0], model)
    with pytest.raises(CheckpointError, match="no checkpoint 'step-00000011'; there: step-00000009, step-00000010"):
        load_model(run.path, checkpoint="11")


def test_a_checkpoint_with_moving_averages_gives_those(tmp_path, model):
    run = RunDir.create(tmp_path, "run")
    write_card(run.model, SECTION, FACTS, {})
    folder = run.checkpoints / "step-00000010"
    folder.mkdir()
    save_file(SpectralVAE(SECTION, FACTS).state_dict(), folder / "model.safetensors")
    save_file(dict(model.named_parameters()), folder / "ema.safetensors")
    assert same_weights(load_model(run.path)[0], model)


def test_weights_of_another_shape_are_listed_with_both_shapes(tmp_path, model):
    save_model(tmp_path, model, SECTION, FACTS, {})
    wider = SpectralVAE(SECTION.model_copy(update={"latent_size": 3, "encoder_hidden": [8, 8]}), FACTS)
    with pytest.raises(CheckpointError) as caught:
        load_weights(wider, tmp_path)
    text = str(caught.value)
    assert "decoder.hidden.0.weight: (8, 2) in the file, (8, 3) in the model" in text
    assert "encoder.perceptron.3.weight: missing from the file, the model has (8, 8)" in text


def test_weights_for_fine_tuning_come_from_a_run_a_folder_or_a_file(tmp_path, model):
    save_model(tmp_path / "model", model, SECTION, FACTS, {})
    for path in (tmp_path, tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        fresh = SpectralVAE(SECTION, FACTS)
        assert not same_weights(fresh, model)
        assert load_weights(fresh, path) == tmp_path / "model" / "model.safetensors"
        assert same_weights(fresh, model)


def damage_version(folder):
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "version": 99}))


def damage_section(folder):
    card = json.loads((folder / "model.json").read_text())
    card["section"]["latent_size"] = "many"
    (folder / "model.json").write_text(json.dumps(card))


def cut_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_version, "format version 99, this hpctrain reads 1; update hpctrain"),
        (damage_section, "section or facts cannot be read"),
        (cut_weights, "cannot be read as safetensors"),
        (lambda folder: (folder / "model.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "model.json").write_text("{}"), "not a model of hpctrain"),
        (lambda folder: (folder / "model.json").unlink(), "no model here"),
        (lambda folder: (folder / "model.safetensors").unlink(), "neither a finished model"),
    ],
)
def test_a_damaged_model_is_refused_and_named(tmp_path, model, damage, message):
    save_model(tmp_path, model, SECTION, FACTS, {})
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(CheckpointError, match="is it a run directory"):
        find_weights(tmp_path)


def test_facts_survive_json():
    assert SpectraFacts.from_json(json.loads(json.dumps(FACTS.to_json()))) == FACTS


class GridOnly:
    """What SpectraFacts asks of a set of spectra."""

    def __init__(self, wavelength, redshift=(0.1, 0.4)):
        self.wavelength_aa = np.asarray(wavelength, dtype=np.float64)
        self.num_pixels = len(wavelength)
        self.redshift = np.asarray(redshift, dtype=np.float32)
        self.has_redshift = np.isfinite(self.redshift)


def test_facts_of_a_set_describe_its_grid_and_the_redshifts_of_the_rows_asked_for():
    spectra = GridOnly(np.linspace(4000.0, 9000.0, 101), (0.1, 0.4, 3.0))
    facts = SpectraFacts.from_spectra(spectra, np.array([0, 1]))
    assert facts.wavelength_aa == (4000.0, 9000.0)
    assert facts.wavelength_middle_aa == 6500.0
    assert (facts.redshift_min, facts.redshift_max) == pytest.approx((0.1, 0.4))
    assert facts.difference(spectra) is None


def test_a_logarithmic_grid_of_the_same_range_is_told_from_a_linear_one():
    linear, log = GridOnly(np.linspace(4000.0, 9000.0, 101)), GridOnly(np.geomspace(4000.0, 9000.0, 101))
    facts = SpectraFacts.from_spectra(linear, np.array([0]))
    assert facts.difference(log) == "middle pixel at 6000.00 AA, the model's is at 6500.00 AA"
    assert facts.difference(GridOnly(np.linspace(4000.0, 9000.0, 100))) == "100 pixels, the model has 101"
    assert facts.difference(GridOnly(np.linspace(4000.0, 9000.1, 101))) is None


def test_whoever_may_read_the_folder_may_read_the_model(tmp_path, model):
    save_model(tmp_path / "model", model, SECTION, FACTS, {})
    mode = (tmp_path / "model").stat().st_mode
    for path in (tmp_path / "model").iterdir():
        assert path.stat().st_mode & 0o444 == mode & 0o444, path.name
