"""Measure how fast shuffled images are read from a file, compared with copying memory.

    python benchmarks/loader_images.py [--num-images N] [--rounds R] [--only TEXT]

Each format has the same images (three bands of 64 × 64 pixels with inverse variance, 98 kB each); JPEG has pictures of
256 × 256 pixels. Readers take turns within each round, on the same shuffled rows if the format allows it. The machine
may be busy, so compare the ratios to the in-memory copy of the same round: medians of images per second of CPU time and
of wall time. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.loader import BATCH_SIZE, WINDOW, measure, print_speeds
from benchmarks.loader_files import FORMATS
from benchmarks.loader_peers import Reader
from hpctrain.kinds.images.images import ImageSet, open_images
from hpctrain.kinds.images.section import ImagesSection
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.order import WindowedOrder, sample_order

SHAPE = (3, 64, 64)
JPEG_SIDE = 256


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only readers whose name contains this text, and the reference")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        files = make_files(Path(temporary), args.num_images)
        ways = {"in-memory copy into a ring of buffers": in_memory(files["contiguous"])}
        for name, path in files.items():
            for threads in (0, 2):
                ways[f"{name}: hpctrain, {threads} threads"] = ours(path, threads)
        ways["JPEG, decoded each time: hpctrain, 2 threads"] = ours(files["JPEG"], 2, keep=False)
        reference = next(iter(ways))
        wanted = {name: way for name, way in ways.items() if name == reference or args.only in name}
        print_speeds(measure(wanted, args.num_images, args.rounds))


def make_files(folder: Path, num: int) -> dict[str, Path]:
    """Write images with smooth light and noise in every format, and return the paths by format."""
    rng, files = np.random.default_rng(1), {}
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]] - SHAPE[1] / 2
    light = np.exp(-0.5 * (x**2 + y**2) / rng.uniform(3, 12, (num, 1, 1, 1)) ** 2)
    image = (30 * light + rng.normal(size=(num, *SHAPE))).astype(np.float32)
    for name, options in FORMATS.items():
        if options is None:
            continue
        files[name] = folder / f"{name.replace(' ', '-')}.h5"
        with h5py.File(files[name], "w") as file:
            for column, values in (("image", image), ("ivar", np.ones_like(image))):
                chunks = {"chunks": (options["chunks"], *SHAPE)} if options else {}
                file.create_dataset(column, data=values, **{**options, **chunks})
            file["target_id"] = np.arange(num)
    files["8 bits"] = folder / "eight-bits.h5"
    with h5py.File(files["8 bits"], "w") as file:
        file["image"] = np.clip(image * 6 + 60, 0, 255).astype(np.uint8)
    files["JPEG"] = _write_jpegs(folder, image[: max(4 * BATCH_SIZE, num // 16)])
    return files


def _write_jpegs(folder: Path, image: np.ndarray) -> Path:
    for number, each in enumerate(image):
        pixels = np.clip(each * 6 + 60, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).resize((JPEG_SIDE, JPEG_SIDE)).save(folder / f"{number}.jpg", quality=90)
    path = folder / "jpegs.csv"
    path.write_text("\n".join(["file", *(f"{number}.jpg" for number in range(len(image)))]) + "\n")
    return path


def open_file(path: Path) -> ImageSet:
    """Open a file as the trainer does."""
    images = open_images(ImagesSection(files=[str(path)]))
    if images.decoded_bytes:
        images.keep_window(WINDOW)
    return images


def requests(images: ImageSet, epoch: int) -> Iterator[np.ndarray]:
    """Yield the rows of each whole batch of an epoch, in the order of the trainer; see ``benchmarks/loader.py``."""
    rows = np.arange(len(images))
    order = functools.partial(sample_order, 1, len(rows))
    if images.decoded_bytes:
        rows = np.array_split(rows, 2)[epoch % 2]
        order = WindowedOrder(1, len(rows), images.blocks(rows), WINDOW)
    for start in range(0, len(rows) - BATCH_SIZE + 1, BATCH_SIZE):
        yield rows[order(epoch * len(rows) + start + np.arange(BATCH_SIZE))]


def ours(path: Path, threads: int, keep: bool = True) -> Reader:
    """Return our loader with a number of threads; 0 reads in the consumer's thread; `keep` decoded JPEG in memory."""
    images = open_file(path)
    if not keep:
        images._files[0]._most_kept = 0
    return Reader(lambda epoch, _first, _: read_ahead(images, requests(images, epoch), threads, depth=4))


def in_memory(path: Path) -> Reader:
    """Return the reference, which copies rows of arrays in memory into a ring of reused buffers."""
    with h5py.File(path) as file:
        arrays = [file[name][...].reshape(len(file[name]), -1) for name in ("image", "ivar")]
    ring = [[np.empty((BATCH_SIZE, arrays[0].shape[1]), np.float32) for _ in arrays] for _ in range(6)]
    images = open_file(path)

    def gather(epoch: int, _first: int, _state: object) -> Iterator[object]:
        for number, rows in enumerate(requests(images, epoch)):
            for array, out in zip(arrays, ring[number % len(ring)], strict=True):
                np.take(array, rows, axis=0, out=out, mode="clip")
            yield ring[number % len(ring)]

    return Reader(gather)


if __name__ == "__main__":
    main()
