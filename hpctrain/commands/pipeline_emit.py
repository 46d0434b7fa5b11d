"""``hpctrain pipeline emit``: a pipeline as a file for an orchestrator or a forge."""

from __future__ import annotations

import argparse

from hpctrain.errors import Problem, ProfileError


def add_emit_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``emit``."""
    group = parser.add_argument_group("emit")
    group.add_argument("--at", metavar="DIR", help="folder in which it calls the stages there (kubeflow: /work)")
    group.add_argument("--image", metavar="IMAGE", help="kubeflow, gitlab: container image")
    group.add_argument("--claim", metavar="NAME", help="kubeflow: volume claim that is mounted at --at (hpctrain)")
    group.add_argument(
        "--install", nargs="+", default=[], metavar="PACKAGE", help="github, gitlab: what pip installs (hpctrain)"
    )


def run_emit(arguments: argparse.Namespace) -> int:
    """Write the file, or print it."""
    from hpctrain.commands.pipeline_options import check_options
    from hpctrain.launch.present import as_typed
    from hpctrain.pipeline.emit.handover import PLATFORMS, Handover, emit
    from hpctrain.pipeline.file import read_pipeline
    from hpctrain.report.document import write_document

    if arguments.name is None or arguments.stage is None:
        message = f"give a platform and a pipeline file: hpctrain pipeline emit {'|'.join(PLATFORMS)} PIPELINE.yaml"
        raise ProfileError("command line", [Problem("", message)])
    section = read_pipeline(arguments.stage, data=False)
    sample = read_pipeline(arguments.stage, sample=True, data=False) if section.sample else None
    for each in filter(None, (section, sample)):
        check_options(each, arguments.stage, packages=False)
    handover = Handover(
        arguments.stage,  # the third word
        section,
        sample,
        arguments.cluster,
        arguments.every,
        arguments.at,
        arguments.image,
        arguments.claim,
        tuple(arguments.install),
    )
    text = emit(arguments.name, handover)
    if arguments.out is None:
        print(text, end="")
    else:
        print(as_typed(write_document(arguments.out.absolute(), text)))
    return 0
