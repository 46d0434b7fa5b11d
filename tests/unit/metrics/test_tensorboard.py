import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hpctrain.families.spectral_vae.figures import draw_reconstructions
from hpctrain.metrics.events import CheckpointSaved
from hpctrain.metrics.exporters.tensorboard import TensorBoardExporter
from hpctrain.metrics.histogram import histograms_of
from hpctrain.metrics.record import MetricsWriter
from hpctrain.rundir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "a_run")


def read_back(run):
    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    return events.Reload()


def spectra(num_spectra=3, num_pixels=300):
    rng = np.random.default_rng(1)
    shape = (num_spectra, num_pixels)
    ivar = np.ones(shape, np.float32)
    ivar[:, 40:50] = 0
    return {
        "wavelength_aa": np.linspace(3600, 9800, num_pixels), "flux": rng.normal(1, 1, shape).astype(np.float32),
        "ivar": ivar, "reconstruction": np.ones(shape, np.float32), "covered": np.ones(shape, bool),
        "target_id": np.arange(num_spectra), "redshift": np.full(num_spectra, 1.5, np.float32),
    }  # fmt: skip


def test_scalars_of_training_and_evaluation_are_written(run):
    writer = MetricsWriter(run, attempt=1)
    writer.subscribe(TensorBoardExporter(run, purge_step=1))
    writer.train(10, loss=0.5, lr=np.float32(1e-3), grad_norm=2.0, samples_per_s=100.0, memory_gib=3.0, note="text")
    writer.evaluation(10, loss=0.6, chi2=1.1)
    writer.event(CheckpointSaved.from_record({"bytes": 5}), 10)
    writer.monitor(10, board_power_w=22.5, temperature_tj_c=77.0, pace="ok", power_mode="MAXN")
    writer.close()
    events = read_back(run)
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/lr", "train/grad_norm", "train/samples_per_s", "train/memory_gib"} <= scalars
    assert {"eval/loss", "eval/chi2"} <= scalars
    assert {"monitor/board_power_w", "monitor/temperature_tj_c"} <= scalars
    assert not {"train/note", "monitor/pace", "monitor/power_mode"} & scalars
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(10, 0.5)]


def test_a_resumed_attempt_hides_the_steps_that_were_lost(run):
    for attempt, steps, purge_step in ((1, (10, 20, 30), 1), (2, (20, 30), 11)):
        writer = MetricsWriter(run, attempt)
        writer.subscribe(TensorBoardExporter(run, purge_step=purge_step))
        for step in steps:
            writer.train(step, loss=float(attempt))
        writer.close()
    assert [(e.step, e.value) for e in read_back(run).Scalars("train/loss")] == [(10, 1.0), (20, 2.0), (30, 2.0)]


def test_histograms_count_every_finite_weight_and_gradient(run):
    layer = torch.nn.Linear(20, 30)
    layer(torch.randn(4, 20)).sum().backward()
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
        layer.bias.zero_()
    exporter = TensorBoardExporter(run)
    exporter.histogram(5, histograms_of(layer.named_parameters()))
    exporter.close()
    events = read_back(run)
    tags = {"weights/weight", "weights/bias", "gradients/weight", "gradients/bias"}
    assert set(events.Tags()["histograms"]) == tags
    histogram = events.Histograms("weights/weight")[0].histogram_value
    assert (histogram.num, sum(histogram.bucket)) == (599, 599)
    assert histogram.sum == pytest.approx(float(layer.weight.detach().nansum()), rel=1e-5)
    assert sum(events.Histograms("weights/bias")[0].histogram_value.bucket) == 30


def test_reconstructions_are_drawn_as_images(run):
    writer = MetricsWriter(run, attempt=1)
    writer.subscribe(TensorBoardExporter(run))
    writer.figures(7, lambda: draw_reconstructions(spectra(), 2))
    writer.close()
    events = read_back(run)
    assert events.Tags()["images"] == ["reconstruction/0", "reconstruction/1"]
    image = events.Images("reconstruction/0")[0]
    assert image.step == 7
    assert image.encoded_image_string[:4] == b"\x89PNG"


def test_a_spectrum_without_a_valid_pixel_is_drawn_too(run):
    arrays = spectra(1)
    arrays["ivar"][:] = 0
    arrays["covered"][:] = False
    exporter = TensorBoardExporter(run)
    for name, figure in draw_reconstructions(arrays, 4):
        exporter.figure(1, name, figure)
    exporter.close()
    assert read_back(run).Tags()["images"] == ["reconstruction/0"]


def test_a_figure_that_tensorboard_cannot_write_costs_the_exporter_not_the_run(run):
    writer = MetricsWriter(run, attempt=1)
    writer.subscribe(TensorBoardExporter(run))
    writer.figures(1, lambda: [("reconstruction/0", object())])
    writer.train(2, loss=1.0)
    writer.histograms(2, lambda: pytest.fail("the exporter is off"))
    writer.close()
    (event,) = run.read_metrics("event")
    assert (event["event"], event["exporter"], event["step"]) == ("exporter_failed", "TensorBoardExporter", 1)
