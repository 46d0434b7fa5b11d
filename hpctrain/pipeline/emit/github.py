"""A workflow of GitHub Actions, which Forgejo and Gitea understand too."""

from __future__ import annotations

import json
from string import Template

from hpctrain.pipeline.emit import checks
from hpctrain.pipeline.emit.handover import Handover

_TEMPLATE = Template("""\
# $note
# Put it into .github/workflows/ of the repository.$remark
name: $title
on:
  push: {}
  pull_request: {}
  workflow_dispatch: {}
permissions:
  contents: read
concurrency:
  group: $group
  cancel-in-progress: true
env:
  PIP_EXTRA_INDEX_URL: $torch  # torch for CPUs, without 3 GB of CUDA
defaults:
  run:
    working-directory: $place
jobs:
  pipeline:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "$python"
          cache: pip
          cache-dependency-path: $file
      - name: Install hpctrain
        run: |
          $install
      - name: Check the profiles and the pipeline
        run: |
$checks
""")

_SAMPLE = Template("""\
      - name: Keep results of stages that have not changed
        uses: actions/cache@v4
        with:
          path: $results
          key: hpctrain-$name-$${{ github.run_id }}
          restore-keys: hpctrain-$name-
      - name: Go through the pipeline with the sample
        run: |
          $run
      - name: Write the report
        if: always()
        run: |
          $report
      - name: Keep the report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: $report_name
          path: $page
""")


def text(handover: Handover) -> str:
    """Return the file of a workflow.

    Raises
    ------
    ProfileError
        A file of the pipeline is not below the current folder.
    """
    name = handover.section.name
    found = _TEMPLATE.substitute(
        note=handover.note,
        remark="" if handover.sample else f"\n# {checks.NO_SAMPLE}",
        title=json.dumps(f"pipeline {name}"),
        group=f"hpctrain-{name}-${{{{ github.ref }}}}",
        torch=checks.TORCH_FOR_CPUS,
        place=json.dumps(checks.place_in_repository()),
        python=checks.PYTHON,
        file=json.dumps(checks.in_repository(handover.inside)),
        install=checks.install_command(handover),
        checks="\n".join(f"          {command}" for command in checks.check_commands(handover)),
    )
    if (sample := handover.sample) is None:
        return found
    return found + _SAMPLE.substitute(
        name=name,
        results=json.dumps(checks.in_repository(checks.results_of(sample))),
        run=checks.run_command(handover),
        report=checks.report_command(sample),
        report_name=json.dumps(f"report of {sample.name}"),
        page=json.dumps(checks.in_repository(checks.REPORT)),
    )
