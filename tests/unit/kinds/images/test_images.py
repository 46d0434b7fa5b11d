"""Images as samples: layouts of files, tables of image files, preparation, random changes, simulation."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from astropy.io import fits
from families import TINY, profile_values
from kinds.images import tiny_file, write_file
from PIL import Image

from hpctrain.cli import run_command
from hpctrain.errors import DataError
from hpctrain.kinds.images.augment import augment, random_bits
from hpctrain.kinds.images.images import ImageSet
from hpctrain.kinds.images.kind import KIND
from hpctrain.kinds.images.prepare import lupton, prepare
from hpctrain.kinds.images.section import ImageAugmentSection, ImagesSection, ScaleSection
from hpctrain.profile.check import check_profile
from hpctrain.samples.hashing import mix64
from hpctrain.samples.loader import read_ahead

PLAIN = ScaleSection(by="linear", unit=1.0)


def section(path: Path | str, **keys: object) -> ImagesSection:
    return ImagesSection(**{"files": [str(path)], **keys})


def opened(path: Path | str, **keys: object) -> ImageSet:
    return KIND.open(section(path, **keys))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(5, 2, shape).astype(np.float32)


LAYOUTS = {
    "contiguous": {},
    "chunks of whole images": {"chunks": (3, 2, 6, 6)},
    "compressed whole images": {"chunks": (3, 2, 6, 6), "compression": "gzip", "shuffle": True},
    "chunks that cut images": {"chunks": (4, 1, 3, 6), "compression": "gzip"},
    "may grow": {"chunks": (2, 2, 6, 6), "maxshape": (None, 2, 6, 6), "compression": "lzf"},
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f2", ">f4", "i2", "u1"])
def test_every_layout_gives_the_images_that_were_written(tmp_path, name, dtype):
    image = numbers(20, 2, 6, 6).astype(dtype)
    samples = opened(write_file(tmp_path / "a.h5", image, LAYOUTS[name], target_id=np.arange(20)))
    rows = np.array([19, 0, 7, 7, 3])
    batch = samples.read(rows)
    np.testing.assert_array_equal(batch.image.numpy(), image[rows])
    assert batch.image.dtype == {"f2": torch.float16, "u1": torch.uint8}.get(dtype, torch.float32)
    for window in (0, 8):  # with a window, all of a chunk is decoded
        samples.keep_window(window)
        padded = samples.read(np.array([5, -1]))
        np.testing.assert_array_equal(padded.image[0].numpy(), image[5])
        assert not padded.image[1].any()


def test_several_files_are_one_set_in_any_order(tmp_path):
    image = numbers(30, 2, 6, 6)
    for number in range(3):
        layout = LAYOUTS["compressed whole images"] if number == 1 else {}
        write_file(tmp_path / f"{number}.h5", image[10 * number :][:10], layout)
    samples = opened(tmp_path / "*.h5")
    rows = np.random.default_rng(1).permutation(30)
    requests = [rows[:16], rows[16:]]
    batches = list(read_ahead(samples, requests, threads=2, depth=2))
    np.testing.assert_array_equal(torch.cat([batch.image for batch in batches]).numpy(), image[rows])
    assert samples.locate(25) == (tmp_path / "2.h5", 5)


@pytest.mark.parametrize("shape", [(8, 6, 6), (8, 6, 6, 3)], ids=["one band", "bands last"])
def test_images_without_a_band_axis_or_with_it_at_the_end_are_read(tmp_path, shape):
    image = numbers(*shape)
    batch = opened(write_file(tmp_path / "a.h5", image)).read(np.arange(8))
    expected = image[:, None] if image.ndim == 3 else image.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(batch.image.numpy(), expected)


def test_files_of_the_multimodal_universe_are_read_by_their_names(tmp_path):
    """Names and shapes of its scripts for Legacy Survey: one mask for all bands, true where pixels are good."""
    image, rng = numbers(6, 4, 8, 8), np.random.default_rng(1)
    good = rng.random((6, 8, 8)) < 0.8
    path = tmp_path / "001-of-001.hdf5"
    write_file(
        path,
        image,
        image_array=image,
        image_ivar=np.ones_like(image),
        image_mask=good,
        image_band=np.array([["des-g", "des-r", "des-i", "des-z"]] * 6, dtype="S5"),
        object_id=np.array([f"brick-{number}" for number in range(6)], dtype="S16"),
    )
    with h5py.File(path, "a") as file:
        del file["image"]
    columns = {"image": "image_array", "ivar": "image_ivar", "mask": "image_mask", "bands": "image_band"}
    data = section(path, columns={**columns, "target_id": "object_id"}, mask_marks="good", bands=["des-r", "des-g"])
    samples = KIND.open(data)
    batch = prepare(samples.read(np.arange(6)), PLAIN, None, 1)
    assert samples.bands == ("des-r", "des-g")
    assert len(set(samples.target_id.tolist())) == 6
    np.testing.assert_array_equal(batch.weight.numpy(), np.repeat(good[:, None], 2, axis=1).astype(np.float32))
    np.testing.assert_array_equal(batch.image.numpy(), np.where(good[:, None], image[:, [1, 0]], 0))
    with pytest.raises(DataError, match=r"image: is not in the file; set data.columns.image: image_array"):
        opened(path)


def write_pictures(folder: Path, form: str, num: int = 5) -> np.ndarray:
    """Write a table and image files; return the pixels, (N, H, W, 3), or for FITS (N, B, H, W)."""
    rng = np.random.default_rng(2)
    (folder / "cutouts").mkdir()
    ramp = 6.0 * (np.arange(10)[:, None] + np.arange(10))[..., None] + 20 * np.arange(3)  # smooth, as JPEG needs
    pixels = (ramp + 15 * np.arange(num)[:, None, None, None]).astype(np.uint8)
    if form == "fits":
        pixels = rng.normal(size=(num, 2, 10, 10)).astype(np.float32)
    for number, each in enumerate(pixels):
        path = folder / "cutouts" / f"g{number}.{form}"
        if form == "fits":
            ivar = np.full(each.shape, 4.0, np.float32)
            ivar[:, 0, 0] = 0
            fits.HDUList([fits.PrimaryHDU(each), fits.ImageHDU(ivar, name="IVAR")]).writeto(path)
        else:
            Image.fromarray(each).save(path, quality=95)
    lines = [f"{100 + number},cutouts/g{number}.{form},{'spiral' if number % 2 else 'other'}" for number in range(num)]
    (folder / "labels.csv").write_text("\n".join(["objid,file,shape", *lines]) + "\n")
    return pixels


@pytest.mark.parametrize("form", ["png", "jpg", "fits"])
def test_a_table_lists_images_in_files_of_their_own(tmp_path, form):
    pixels = write_pictures(tmp_path, form)
    samples = opened(tmp_path / "labels.csv", columns={"target_id": "objid"})
    assert samples.target_id.tolist() == [100, 101, 102, 103, 104]
    assert samples.column("shape").tolist() == ["other", "spiral", "other", "spiral", "other"]
    for _ in range(2):  # decoded, and from memory
        batch = samples.read(np.array([3, 0, -1]))
        found = batch.image[:2].numpy()
        if form == "fits":
            np.testing.assert_array_equal(found, pixels[[3, 0]])
            assert batch.ivar[0, :, 0, 0].tolist() == [0, 0]
        else:
            expected = pixels[[3, 0]].transpose(0, 3, 1, 2)
            apart = np.abs(found.astype(int) - expected)
            assert apart.max() == 0 if form == "png" else apart.mean() < 40  # noise is the worst for JPEG
            assert samples.bands == ("R", "G", "B")


def test_names_of_image_files_are_made_of_columns(tmp_path):
    write_pictures(tmp_path, "png")
    (tmp_path / "table.csv").write_text("number,votes\n4,0.1\n1,0.9\n")
    samples = opened(tmp_path / "table.csv", columns={"file": "cutouts/g{number}.png"})
    both = opened(tmp_path / "labels.csv").read(np.array([4, 1])).image
    assert torch.equal(samples.read(np.arange(2)).image, both)
    assert "no identifiers" in "".join(samples.notes)


def test_image_files_that_cannot_be_used_are_named(tmp_path):
    write_pictures(tmp_path, "png")
    Image.new("RGB", (10, 12)).save(tmp_path / "cutouts" / "g1.png")
    (tmp_path / "cutouts" / "g2.png").write_bytes(b"no image")
    samples = opened(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"g1\.png: has 12 × 10 × 3 .*g0\.png has 10 × 10 × 3"):
        samples.read(np.array([1]))
    with pytest.raises(DataError, match=r"g2\.png: cannot be read as an image"):
        samples.read(np.array([2]))
    (tmp_path / "cutouts" / "g3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 5 image files do not exist \(row 3: .*g3\.png\)"):
        opened(tmp_path / "labels.csv")


def test_what_does_not_fit_together_is_said_at_once(tmp_path):
    write_file(tmp_path / "a.h5", numbers(4, 2, 6, 6))
    write_file(tmp_path / "b.h5", numbers(4, 2, 8, 8))
    write_file(tmp_path / "c.h5", numbers(4, 2, 6, 6), ivar=numbers(4, 2, 6, 6))
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "*.h5")
    said = str(caught.value)
    assert "b.h5: has images of 8 × 8 pixels in the bands 0, 1" in said
    assert "c.h5: has image, ivar, but" in said
    with pytest.raises(DataError, match=r"ivar: has shape \(4, 6, 6\), but the images"):
        opened(write_file(tmp_path / "d.h5", numbers(4, 2, 6, 6), ivar=numbers(4, 6, 6)))
    with pytest.raises(DataError, match=r"has shape \(4, 6\); \(images, bands, height, width\) is needed"):
        opened(write_file(tmp_path / "e.h5", numbers(4, 6)))
    with pytest.raises(DataError, match="has no band z"):
        opened(tmp_path / "a.h5", bands=["0", "z"])
    with pytest.raises(DataError, match=r"6 × 6 pixels, fewer than data.crop: 8"):
        opened(tmp_path / "a.h5", crop=8)
    with pytest.raises(DataError, match="only squares can be rotated"):
        opened(write_file(tmp_path / "f.h5", numbers(4, 2, 6, 8)))


def test_masked_and_bad_pixels_get_weight_0_and_bad_ones_are_counted(tmp_path):
    image, ivar = numbers(4, 1, 4, 4), np.ones((4, 1, 4, 4), np.float32)
    image[0, 0, 0, 0], image[0, 0, 0, 1], ivar[1, 0, 2, 2], ivar[1, 0, 2, 3] = np.nan, np.inf, -1.0, np.nan
    ivar[2, 0, 1] = 0.0
    image[2, 0, 1, 0] = np.nan  # masked, so not bad
    image[3] = 7.0  # shows nothing
    samples = opened(write_file(tmp_path / "a.h5", image, ivar=ivar))
    batch = prepare(samples.read(np.array([0, 1, 2, 3, -1])), PLAIN, None, 1)
    assert batch.num_bad.tolist() == [2, 2, 0, 0, 0]
    assert batch.is_usable.tolist() == [True, True, True, False, False]
    assert batch.weight.sum(dim=(1, 2, 3)).tolist() == [14, 14, 12, 0, 0]
    assert torch.isfinite(batch.image).all()
    assert not batch.image[batch.weight == 0].any()
    assert KIND.count_bad(batch).tolist() == [4, 2, 1]
    lines = KIND.describe_bad(samples, np.arange(4))
    assert len(lines) == 2
    assert "NaN in 1 pixels, the first in band 0 at (0, 0)" in lines[0]
    assert "ivar negative in 1 pixels" in lines[1]
    assert KIND.reasons(samples, np.array([3]), section("x")) == ["all pixels have the same value"]


def test_the_middle_is_cropped_and_bins_are_weighted_means():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    ivar = torch.ones_like(image)
    ivar[0, 0, 2, 2] = 0
    samples = torch.tensor([0])
    from hpctrain.kinds.images.batch import ImageBatch

    batch = prepare(ImageBatch(image, samples, samples, ivar=ivar), PLAIN, 4, 2)
    middle = image[0, 0, 2:6, 2:6].numpy()
    expected = middle.reshape(2, 2, 2, 2).mean(axis=(1, 3))
    expected[0, 0] = (middle[:2, :2].sum() - middle[0, 0]) / 3
    np.testing.assert_allclose(batch.image[0, 0].numpy(), expected, rtol=1e-6)
    assert batch.weight[0, 0].tolist() == [[0.75, 1], [1, 1]]


def test_scalings_are_the_published_ones():
    from hpctrain.kinds.images.batch import ImageBatch

    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.normal(0, 3, (2, 3, 64, 64)))
    rows = torch.arange(2)
    by_noise = prepare(ImageBatch(image, rows, rows), ScaleSection(by="asinh"), None, 1).image
    torch.testing.assert_close(by_noise, torch.asinh(image.float() / 3), atol=0.15, rtol=0.06)
    ivar = torch.full(image.shape, 1 / 9.0)
    exact = prepare(ImageBatch(image, rows, rows, ivar=ivar), ScaleSection(by="asinh", softening=2.0), None, 1).image
    torch.testing.assert_close(exact, torch.asinh(image.float() / 6))
    positive = image.abs().float() + 0.1
    shown = lupton(positive)
    torch.testing.assert_close(shown / shown.mean(1, keepdim=True), positive / positive.mean(1, keepdim=True))
    torch.testing.assert_close(shown.mean(1), torch.asinh(positive.mean(1)))
    eight_bits = prepare(ImageBatch((positive * 10).byte(), rows, rows), ScaleSection(), None, 1).image
    torch.testing.assert_close(eight_bits, (positive * 10).byte().float() / 255)


def square(num: int = 400, side: int = 5) -> object:
    from hpctrain.kinds.images.batch import ImageBatch

    image = torch.arange(float(side * side)).reshape(1, 1, side, side).repeat(num, 1, 1, 1)
    return ImageBatch(image, torch.arange(num), torch.arange(num), weight=torch.ones_like(image))


def test_all_flips_and_rotations_occur_about_equally_often_and_nothing_else():
    torch.manual_seed(5)
    batch = augment(square(), ImageAugmentSection())
    base = square(1).image[0, 0]
    turned = [base.rot90(k) for k in range(4)] + [base.rot90(k).flip(1) for k in range(4)]
    counts = [sum(torch.equal(image[0], each) for image in batch.image) for each in turned]
    assert sum(counts) == 400
    assert min(counts) > 25


def test_shifts_move_pixels_and_leave_weight_0_behind():
    torch.manual_seed(5)
    batch = augment(square(), ImageAugmentSection(flip=False, rotate=False, shift=2))
    padded = torch.nn.functional.pad(square(1).image[0, 0] + 1, (2, 2, 2, 2))
    windows = [padded[y : y + 5, x : x + 5] for y in range(5) for x in range(5)]
    counts = [0] * 25
    for image, weight in zip(batch.image[:, 0], batch.weight[:, 0], strict=True):
        [number] = [number for number, window in enumerate(windows) if torch.equal((image + 1) * weight, window)]
        counts[number] += 1
        assert torch.equal(weight, (windows[number] > 0).float())
    assert min(counts) >= 4


def test_what_happens_to_an_image_depends_on_its_row_and_the_seed_alone():
    torch.manual_seed(11)
    whole = augment(square(), ImageAugmentSection(shift=1)).image
    torch.manual_seed(11)
    torch.rand(7)  # other draws do not matter
    part = square().with_tensors({})
    chosen = torch.tensor([390, 4, 17])
    part = part.replace(image=part.image[chosen], weight=part.weight[chosen], row=chosen, target_id=chosen)
    assert torch.equal(augment(part, ImageAugmentSection(shift=1)).image, whole[chosen])
    torch.manual_seed(12)
    assert not torch.equal(augment(square(), ImageAugmentSection(shift=1)).image, whole)


def test_the_bits_are_those_of_the_hash_that_orders_samples():
    rows, seed = np.array([0, 5, -1, 2**40]), 2**63 - 25
    with np.errstate(over="ignore"):
        expected = mix64(mix64(rows.astype(np.int64).view(np.uint64)) ^ np.uint64(seed))
    np.testing.assert_array_equal(random_bits(torch.from_numpy(rows), seed).numpy().view(np.uint64), expected)


def test_simulated_images_are_those_of_their_seed_and_number(tmp_path):
    from hpctrain.kinds.images.section import SimulateImagesSection
    from hpctrain.kinds.images.simulate import simulate

    found = []
    for name, num, seed in (("a", 24, 1), ("b", 40, 1), ("c", 24, 2)):
        simulate(tmp_path / name, SimulateImagesSection(num_images=num, seed=seed, num_pixels=24))
        with h5py.File(tmp_path / name) as file:
            found.append({key: file[key][...] for key in file})
    a, b, c = found
    for key in a:
        if key != "bands":
            np.testing.assert_array_equal(a[key], b[key][:24])
    assert not np.array_equal(a["image"], c["image"])
    is_lens = b["lens"] == b"yes"
    assert 8 < is_lens.sum() < 32
    assert np.array_equal(np.isfinite(b["einstein_radius"]), is_lens)
    border = np.diff(b["image"][:, :, 0], axis=-1) / np.sqrt(2)  # differences of neighbours show the noise alone
    assert border.std() == pytest.approx(1, abs=0.1)


def test_the_deflection_is_that_of_a_singular_isothermal_ellipsoid():
    """Half of its divergence is the convergence b / (2 R), where R is the elliptical radius."""
    from hpctrain.kinds.images.simulate import deflection, sersic

    axis = np.linspace(-3, 3, 601)
    x, y = np.meshgrid(axis, axis)
    q, b, step = 0.6, 1.3, axis[1] - axis[0]
    ax, ay = deflection(x, y, b, q)
    found = 0.5 * (np.gradient(ax, step, axis=1) + np.gradient(ay, step, axis=0))
    far = np.hypot(x, y) > 0.3
    expected = b / (2 * np.sqrt(q * x**2 + y**2 / q))[far]
    np.testing.assert_allclose(found[far][::7], expected[::7], rtol=0.01)
    curl = np.gradient(ay, step, axis=1) - np.gradient(ax, step, axis=0)
    assert np.abs(curl[far]).max() < 0.02
    light = sersic((x, y), 0.4, 1.0, 0.7)
    inside = np.sqrt(0.7 * x**2 + y**2 / 0.7) < 0.4
    assert light[inside].sum() / light.sum() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("data", "where", "said"),
    [
        ({"crop": 30, "bin": 4}, "data.bin", "does not divide data.crop: 30"),
        ({"cache": "ram"}, "data.cache", "cannot be kept in memory"),
        ({"bands": ["g", "g"]}, "data.bands", "names a band twice"),
        ({"scale": {"by": "sinh"}}, "data.scale.by", "did you mean 'asinh'?"),
        ({"stage": "/tmp", "files": ["a.csv"]}, "data.stage", "lists images in other files"),
    ],
)
def test_a_wrong_profile_is_one_problem_with_its_place(tmp_path, data, where, said):
    path = tiny_file(tmp_path / "a.h5", num=10)
    values = profile_values(TINY["image_cnn"], path)
    values["data"] |= data
    (tmp_path / "a.csv").write_text("file\n")
    values["data"]["files"] = [str(tmp_path / name) for name in data.get("files", ["a.h5"])]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    [problem] = check_profile(tmp_path / "p.yaml", memory=False).problems
    assert problem.where == where
    assert said in problem.message


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_check_says_that_images_show_nothing_or_are_copies(tmp_path, capsys):
    image = numbers(40, 2, 6, 6)
    image[::2] = 0.0
    image[1::4] = image[1]
    labels = {"colour": np.array(["a", "b", "c", "d"] * 10, dtype="S1")}
    write_file(tmp_path / "a.h5", image, **labels)
    values = profile_values(TINY["image_cnn"], tmp_path / "a.h5")
    values["model"] = {**values["model"], "labels": [{"column": "colour", "kind": "class"}]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    assert run_command("check", [str(tmp_path / "p.yaml")]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "show nothing and carry no weight" in said
    assert "inspected images are copies of others" in said
    write_file(tmp_path / "a.h5", np.zeros_like(image), **labels)
    assert run_command("check", [str(tmp_path / "p.yaml")]) != 0
    assert "inspected images show nothing" in " ".join(capsys.readouterr().err.split())
