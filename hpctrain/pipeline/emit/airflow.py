"""A DAG of Airflow: one task for each stage, which tries again only after errors that may pass.

All tasks are sensors that give their worker back while they wait (``mode="reschedule"``). On this machine a stage is
done within one look. On a cluster the first look submits its job and the next ones ask for it, so nothing waits on a
worker for a job in the queue; a trigger of one's own would save no more, and the triggerer would need our package.
"""

from __future__ import annotations

import os
from string import Template

from hpctrain.errors import EXIT_RANKS_LOST, EXIT_REQUEUE, EXIT_TOO_HOT, NodeError, SiteError
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.pipeline.emit.handover import Handover, command_here, python
from hpctrain.pipeline.schedule import cron_time

AGAIN = (SiteError.exit_code, EXIT_RANKS_LOST, NodeError.exit_code, EXIT_TOO_HOT)
"""Exit codes after which another try may end well: the cluster did not answer, ranks or nodes were lost, heat."""

_TEMPLATE = Template('''\
"""Pipeline $name. $note

Put this file into the folder of DAGs. If a stage comes or goes, write it again; other changes of the pipeline file
need no new DAG. Each task does one stage unless its results are there already; logs and results are in the folder of
the pipeline. Needs Airflow 3 (or 2.10) on a host that sees this folder$and_queue.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

try:
    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import DAG, BaseSensorOperator
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.exceptions import AirflowException, AirflowFailException
    from airflow.hooks.subprocess import SubprocessHook
    from airflow.sensors.base import BaseSensorOperator

FOLDER = $folder
COMMAND = $command
ENVIRONMENT = $environment
NEEDS = $needs
NOT_YET = $not_yet
"""Exit code: the job of the stage waits or runs."""
AGAIN = $again
"""Exit codes after which another try may end well; a failed gate, wrong data or a wrong profile are not among them."""


class Stage(BaseSensorOperator):
    """One stage of the pipeline; its name is the name of the task."""

    def poke(self, context):
        """Do the stage, or look at its job; return whether it is done."""
        self.hook = SubprocessHook()
        command = [*COMMAND, "--stage", self.task_id, "--id", context["run_id"]]
        code = self.hook.run_command(command, env={**os.environ, **ENVIRONMENT}, cwd=FOLDER).exit_code
        if code in (0, NOT_YET):
            return code == 0
        if code in AGAIN or code < 0 or code > 128:  # the last two: killed by a signal
            raise AirflowException(f"exit code {code}")
        raise AirflowFailException(f"exit code {code}: another try would only repeat it")

    def on_kill(self):
        """End what was started; a training saves first."""
        self.hook.send_sigterm()


with DAG(
    dag_id=$dag_id,
    description=$description,
    schedule=$schedule,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={
        "mode": "reschedule",
        "poke_interval": $poke_s,
        "timeout": timedelta(days=30).total_seconds(),
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
    },
    tags=["hpctrain"],
) as dag:
    stages = {name: Stage(task_id=name) for name in NEEDS}
    for name, needs in NEEDS.items():
        for need in needs:
            stages[need] >> stages[name]
''')


def text(handover: Handover) -> str:
    """Return the file of a DAG.

    Raises
    ------
    ProfileError
        Airflow cannot say the schedule.
    """
    section = handover.section
    cluster = choose_target(handover.cluster or section.launch.cluster)
    command, environment = command_here(handover)
    is_here = not find_target(cluster).has_queue
    return _TEMPLATE.substitute(
        name=section.name,
        note=handover.note,
        and_queue="" if is_here else f" and can submit to {cluster}",
        folder=python(handover.folder or os.getcwd()),
        command=python([*command, "--cluster", cluster]),
        environment=python(environment),
        needs=python(handover.needs),
        not_yet=EXIT_REQUEUE,
        again=python(list(AGAIN)),
        dag_id=python(section.name),
        description=python(section.description or f"hpctrain pipeline {section.name}"),
        schedule=python(cron_time(handover.every) if handover.every else None),
        poke_s=10 if is_here else 60,
    )
