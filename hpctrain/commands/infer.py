"""Run a bundle over files of spectra: latent vectors, reconstruction error and anomaly score of every object.

hpctrain infer BUNDLE spec-4055-55359-0001.fits            a line per spectrum
hpctrain infer BUNDLE coadd-main-dark-*.fits --out latents.h5
hpctrain infer BUNDLE spectra.h5 --out latents.h5 --batch-size 8

infer reads FITS files of SDSS (spec-*) and DESI (coadd-*, spectra-*, with redshifts from redrock-* beside them or
--redshifts), and HDF5 files of `hpctrain ingest` or the Multimodal Universe. Files may be larger than memory. The
device needs only numpy, h5py and onnxruntime, scipy for survey files, and astropy for DESI files.

The catalogue keeps ra, dec, the name of the file and the survey's ids: plate, mjd and fiber. target_id is TARGETID for
DESI, and for SDSS the number that `hpctrain ingest` gives. The anomaly score compares with training spectra, of which
the bundle holds what is needed: 3 means that one in 1000 of them scores as high. It does not depend on other spectra in
the files. A bundle of an older hpctrain has only FOREST_SCORE.

With --public-key FILE, or HPCTRAIN_PUBLIC_KEYS, it uses only a bundle that one of these keys has signed (hpctrain
signature sign); exit code 5 if none has.

First the device computes reference spectra of the bundle. If its results differ from those of the export, infer stops
with exit code 7. If some files are unusable, infer processes the others, lists the unusable files at the end and exits
with code 4. It skips files without spectra in a searched folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.commands.argument_types import positive
from hpctrain.commands.signing_arguments import add_public_key_argument, trusted_by
from hpctrain.errors import CheckpointError, DataError, GateError, Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.edge.bundle import Bundle
    from hpctrain.edge.infer import Table
    from hpctrain.edge.runtime import OnnxNetwork
    from hpctrain.edge.spectra_files import RawSpectra, SpectraFiles

SOURCE = "hpctrain infer"
_MOST_NAMED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain infer``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `hpctrain export` made")
    parser.add_argument("files", nargs="+", metavar="FILE", help="FITS or HDF5 files, folders of them, or globs")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="LATENTS.h5",
        help="catalogue to write; without it, infer prints a line per spectrum",
    )
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="spectra at a time (16)")
    parser.add_argument(
        "--redshifts", nargs="+", default=[], metavar="FITS", help="tables with TARGETID and Z for DESI files"
    )
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=DATASET", help="name of a dataset in HDF5 files"
    )
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="provider of onnxruntime, such as CPUExecutionProvider (default: the first of TensorRT, CUDA, CPU)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads of the network (all cores)")
    parser.add_argument(
        "--force",
        action="store_true",
        help="use a bundle that failed its gates, or whose results differ on this device",
    )
    add_public_key_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Process the files and print a summary."""
    from hpctrain.edge.bundle import read_bundle
    from hpctrain.edge.infer import infer_files
    from hpctrain.edge.runtime import OnnxNetwork

    columns = _columns(args.column)
    _refuse_unsigned(args)
    bundle = read_bundle(args.bundle)
    _refuse_rejected(bundle, args.force)
    files = _find(args, bundle, columns)
    network = OnnxNetwork(bundle.network, args.provider, args.threads)
    _compare_with_reference(bundle, network, args.batch_size, args.force)
    if args.out is None:
        _print_header()
        summary = infer_files(bundle, network, files, args.batch_size, _print_lines)
    else:
        summary = _write(args.out, bundle, network, files, args.batch_size)
    print(f"{summary}\n  computed by {network.provider}", file=sys.stderr if args.out is None else sys.stdout)
    for reason, number in files.dropped.most_common():
        print(f"  {number:>9}  left out: {reason}", file=sys.stderr)
    return _report_failed(files)


def _write(out: Path, bundle: Bundle, network: object, files: SpectraFiles, batch_size: int) -> object:
    from hpctrain.edge.infer import CatalogueWriter, infer_files

    if not out.absolute().parent.is_dir():
        raise ProfileError(SOURCE, [Problem("--out", f"{out.absolute().parent} is no directory; make it first")])
    files.leave_out(out)  # an earlier catalogue in the folder that is searched
    if out.resolve() in {path.resolve() for path in files.paths}:
        raise ProfileError(SOURCE, [Problem("--out", f"{out} is one of the input files; choose another name")])
    writer = CatalogueWriter(out, bundle, list(files.paths))
    try:
        summary = infer_files(bundle, network, files, batch_size, writer)
        if summary.num_spectra:
            writer.finish()
            print(f"{out}:", end=" ")
    finally:
        writer.discard()
    return summary


def _find(args: argparse.Namespace, bundle: Bundle, columns: dict[str, str]) -> SpectraFiles:
    from hpctrain.edge.spectra_files import FILE_NAMES, SpectraFiles
    from hpctrain.ingest.desi import NOT_SPECTRA
    from hpctrain.ingest.sources import find_sources

    named = {Path(name).expanduser() for name in args.files}
    paths = find_sources(args.files, FILE_NAMES, NOT_SPECTRA).paths
    return SpectraFiles(
        paths,
        bundle.wavelength_aa,
        bundle.num_pixels,
        columns=columns,
        redshift_tables=[Path(name) for name in args.redshifts],
        searched={path for path in paths if path not in named},
    )


def _columns(texts: list[str]) -> dict[str, str]:
    known = ("flux", "ivar", "mask", "wavelength", "target_id", "redshift")
    pairs = [text.partition("=") for text in texts]
    problems = [
        Problem("--column", f"{name}{sign}{dataset!s} is not NAME=DATASET with NAME one of {', '.join(known)}")
        for name, sign, dataset in pairs
        if not dataset or name not in known
    ]
    if problems:
        raise ProfileError(SOURCE, problems)
    return {name: dataset for name, _, dataset in pairs}


def _refuse_unsigned(args: argparse.Namespace) -> None:
    """Refuse a bundle that no trusted key has signed, if the user trusts only some."""
    if anchors := trusted_by(args):
        from hpctrain.edge.bundle import MANIFEST
        from hpctrain.signing.verify import require_signature

        folder = args.bundle.parent if args.bundle.name == MANIFEST else args.bundle
        require_signature(folder, anchors)


def _refuse_rejected(bundle: Bundle, is_forced: bool) -> None:
    from hpctrain.edge.trust import why_rejected

    if (reason := why_rejected(bundle)) is not None and not is_forced:
        raise CheckpointError(f"{reason}; export again, or use it anyway with --force")


def _compare_with_reference(bundle: Bundle, network: OnnxNetwork, batch_size: int, is_forced: bool) -> None:
    """Compute the reference spectra of the bundle; refuse to continue if this device gets other results."""
    from hpctrain.edge.trust import why_unlike_the_export

    if bundle.reference is None:
        text = "the bundle holds no reference spectra (an older hpctrain exported it): results are not checked here"
        print(f"{bundle.path}: {text}", file=sys.stderr)
        return
    reason = why_unlike_the_export(bundle, network, batch_size)
    if reason is None:
        return
    if is_forced:
        print(f"{reason}; used anyway (--force)", file=sys.stderr)
        return
    raise GateError(
        f"{reason}. No spectrum was processed. Try --provider CPUExecutionProvider or another version of onnxruntime; "
        "or export again, with --quantise fp16 or none; or continue anyway with --force"
    )


def _print_header() -> None:
    print(f"{'target_id':>20} {'redshift':>9} {'chi2':>9} {'anomaly':>9}  where")


def _print_lines(raw: RawSpectra, table: Table) -> None:
    from hpctrain.families.spectral_vae.catalogue import ENCODED, STATUS

    for index in range(len(raw)):
        status = int(table["STATUS"][index])
        score = table["ANOMALY_SCORE"][index]
        numbers = f"{table['RECON_MSE'][index]:9.3f} " + (f"{score:9.2f}" if score == score else f"{'-':>9}")
        shown = numbers if status == ENCODED else f"{'-':>9} {'-':>9}"
        reason = "" if status == ENCODED else f"  ({STATUS[status]})"
        print(
            f"{raw.target_id[index]:>20} {raw.redshift[index]:9.5f} {shown}  {raw.path}:{raw.row[index]}{reason}",
            flush=True,
        )


def _report_failed(files: SpectraFiles) -> int:
    for noted, prefix in ((files.skipped, "skipped, no spectra in it: "), (files.failed, "")):
        for path, reason in noted[:_MOST_NAMED]:
            print(f"{prefix}{path}: {reason}", file=sys.stderr)
        if len(noted) > _MOST_NAMED:
            print(f"... and {len(noted) - _MOST_NAMED} more files", file=sys.stderr)
    if files.failed and files.num_read:
        number = len(files.failed)
        text = f"{number} of {len(files.paths)} files could not be used; the results of the others are complete"
        print(f"{text} (exit code {DataError.exit_code})", file=sys.stderr)
    return DataError.exit_code if files.failed else 0
