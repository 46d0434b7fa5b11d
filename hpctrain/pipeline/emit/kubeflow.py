"""A pipeline of Kubeflow (KFP 2): one container for each stage, all with the same volume.

The text is Python for KFP's own compiler, because that is what people keep and change. The folder of the pipeline, its
inputs and its profiles are on a volume claim, so results are kept and found as anywhere else.
"""

from __future__ import annotations

import re
from string import Template

from hpctrain.errors import Problem, ProfileError
from hpctrain.pipeline.emit.handover import Handover, python
from hpctrain.pipeline.section import TRAIN, StageSection
from hpctrain.profile.load import load_profile

FOLDER, CLAIM, CLUSTER = "/work", "hpctrain", "local"

_TEMPLATE = Template('''\
"""Pipeline $name for Kubeflow Pipelines 2. $note

    pip install kfp kfp-kubernetes
    python THIS_FILE $package
    kfp pipeline create -p $name $package

All stages see one volume claim; the pipeline file, its profiles and its inputs are on it, and all results. A stage
whose results are there already is not done again, so KFP's own cache is off.
"""

import sys

from kfp import compiler, dsl, kubernetes

IMAGE = $image
"""An image with hpctrain."""
CLAIM = $claim
FOLDER = $folder
COMMAND = ["env", f"--chdir={FOLDER}", $command]
NEEDS = $needs
RESOURCES = $resources
"""A stage that trains goes on from its newest checkpoint, so it has retries. KFP cannot tell exit codes apart, so each
other stage has one try: a gate that failed would only fail again."""

$components

STAGES = {
$stages
}


def give_resources(task, cpus, memory="", gpus=0, retries=0):
    """Ask for the volume, and for what the stage needs."""
    kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=FOLDER)
    task.set_cpu_request(cpus).set_cpu_limit(cpus)
    if memory:
        task.set_memory_request(memory).set_memory_limit(memory)
    if gpus:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)
    if gpus > 1:  # NCCL needs more shared memory than the 64 MiB of a container
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory")
    if retries:
        task.set_retry(retries, backoff_duration="60s", backoff_factor=2.0)


@dsl.pipeline(name=$name_text, description=$description)
def pipeline():
    """Order the stages."""
    tasks = {}
    for name, needs in NEEDS.items():
        tasks[name] = STAGES[name](run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        tasks[name].set_display_name(name).set_caching_options(False)
        tasks[name].after(*(tasks[need] for need in needs))
        give_resources(tasks[name], **RESOURCES[name])


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, sys.argv[1])
''')

_COMPONENT = Template('''
@dsl.container_component
def $function(run: str):
    """Do the stage $name."""
    return dsl.ContainerSpec(image=IMAGE, command=COMMAND, args=["--stage", $name_text, "--id", run])
''')


def text(handover: Handover) -> str:
    """Return a file of Python that KFP compiles.

    Raises
    ------
    ProfileError
        There is no image, a training needs several nodes, or the pipeline file is not below the current folder.
    """
    section, names = handover.section, list(handover.needs)
    functions = {name: f"stage_{number}_{re.sub('[^A-Za-z0-9]', '_', name)}" for number, name in enumerate(names, 1)}
    command = ["hpctrain", "pipeline", handover.inside, "--cluster", CLUSTER]
    return _TEMPLATE.substitute(
        name=section.name,
        note=handover.note,
        package=f"{section.name}-kubeflow.yaml",
        image=python(_image_of(handover)),
        claim=python(handover.claim or CLAIM),
        folder=python(handover.folder or FOLDER),
        command=", ".join(map(python, command)),
        needs=python(handover.needs),
        resources=python({name: _resources_of(handover, section.stage(name)) for name in names}),
        components="\n".join(
            _COMPONENT.substitute(function=functions[name], name=name, name_text=python(name)) for name in names
        ),
        stages="\n".join(f"    {python(name)}: {function}," for name, function in functions.items()),
        name_text=python(section.name),
        description=python(section.description or f"hpctrain pipeline {section.name}"),
    )


def _image_of(handover: Handover) -> str:
    if handover.image is None:
        message = "is missing: Kubeflow runs each stage in a container; name an image with hpctrain"
        raise ProfileError("command line", [Problem("--image", message)])
    return handover.image


def _resources_of(handover: Handover, stage: StageSection) -> dict[str, object]:
    """Return what the container of a stage asks for; a stage that trains has ``launch`` of its profile."""
    if stage.does != TRAIN:
        own = stage.launch
        return _request(own.cpus, own.memory_gib or handover.section.launch.memory_gib_per_node, own.gpus)
    launch = load_profile(str(stage.profile), [each for each in stage.set if "{" not in each]).launch
    if launch.nodes > 1:
        message = f"{launch.nodes} nodes, and a stage of Kubeflow is one container on one node; give it launch.nodes=1"
        raise ProfileError(handover.file, [Problem(f"stage {stage.name}", f"{stage.profile} asks for {message}")])
    cpus = launch.cpus_per_rank * launch.ranks_on_each_node
    return {**_request(cpus, launch.memory_gib_per_node, launch.gpus_per_node), "retries": 2}


def _request(cpus: int, memory_gib: float | None, gpus: int) -> dict[str, object]:
    memory = {"memory": f"{memory_gib:g}Gi"} if memory_gib else {}
    return {"cpus": str(cpus), **memory, **({"gpus": gpus} if gpus else {})}
