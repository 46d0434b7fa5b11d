"""A job of GitLab CI, in a file to include or to use as ``.gitlab-ci.yml``."""

from __future__ import annotations

import json
import re
import shlex
from string import Template

from hpctrain.pipeline.emit import checks
from hpctrain.pipeline.emit.handover import Handover

_TEMPLATE = Template("""\
# $note
# Use it as .gitlab-ci.yml, or add to that file: include: {local: THIS_FILE}$remark
$job:
  image: $image
  interruptible: true
  timeout: 1 hour
  variables:
    PIP_CACHE_DIR: $$CI_PROJECT_DIR/.cache/pip
    PIP_EXTRA_INDEX_URL: $torch  # torch for CPUs, without 3 GB of CUDA
  cache:
$caches
  before_script:
    - $install
  script:
$script
""")

_AFTER = Template("""\
  after_script:
    - $report
  artifacts:
    when: always
    expose_as: $title
    paths: [$page]
    expire_in: 30 days
""")


def text(handover: Handover) -> str:
    """Return the file of a job.

    Raises
    ------
    ProfileError
        A file of the pipeline is not below the current folder.
    """
    name, sample, place = handover.section.name, handover.sample, checks.place_in_repository()
    go = [f"cd {shlex.quote(place)}"] if place != "." else []
    script = [*go, *checks.check_commands(handover), *([checks.run_command(handover)] if sample else [])]
    caches = {"hpctrain-pip": ".cache/pip"}
    if sample:
        caches[f"hpctrain-{sample.name}"] = checks.in_repository(checks.results_of(sample))
    found = _TEMPLATE.substitute(
        note=handover.note,
        remark="" if sample else f"\n# {checks.NO_SAMPLE}",
        job=json.dumps(f"hpctrain {name}"),
        image=json.dumps(handover.image or f"python:{checks.PYTHON}"),
        torch=checks.TORCH_FOR_CPUS,
        caches="\n".join(f"    - {{key: {key}, paths: [{json.dumps(path)}]}}" for key, path in caches.items()),
        install=json.dumps(checks.install_command(handover)),
        script="\n".join(f"    - {json.dumps(command)}" for command in script),
    )
    if sample is None:
        return found
    report = " && ".join([*go, checks.report_command(sample)])
    return found + _AFTER.substitute(
        report=json.dumps(report),
        title=json.dumps("Report of " + re.sub(r"\W", "-", sample.name)),
        page=json.dumps(checks.in_repository(checks.REPORT)),
    )
