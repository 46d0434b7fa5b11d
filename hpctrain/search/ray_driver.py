"""``python -m hpctrain.search.ray_driver STUDY [ADDRESS]``: the trials of a study on a Ray cluster, some at once.

Ray Tune takes the place of a queue: it finds a node with room for a trial, and starts a trial again when its node dies.
It knows the numbers of trials and nothing else. What a trial is, what it has reached and how it ended is in the folder
of the study, as with any other engine; so a later driver (``hpctrain search resume``) needs nothing of Ray's.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpctrain.access import enter
from hpctrain.credentials.hide import hide_in_tracebacks
from hpctrain.errors import SiteError
from hpctrain.fulldisk import tolerate_full_log
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.launch.targets.ray_cluster import QUIET, connect, end_with_node, need_ray
from hpctrain.rundir import new_run_id, write_json
from hpctrain.search.folder import StudyDir
from hpctrain.search.mirror import mirror
from hpctrain.search.numbers import OVER, NextNumber
from hpctrain.search.pool import in_background, lock_path, start_pool
from hpctrain.search.section import CLIENT
from hpctrain.search.trials import read_trials

DRIVER_MODULE = "hpctrain.search.ray_driver"
TRIAL_MODULE = "hpctrain.search.ray_trial"
_KEY = "engine: ray"
_ADDRESS = "engine.address"


def start_driver(study: StudyDir) -> str:
    """Start the driver of a study in a session of its own; return its id, ``local-<pid>``, once Ray has answered.

    Raises
    ------
    SiteError
        Ray is not installed or does not answer, or another driver of the study runs on this machine.
    """
    need_ray(_KEY)
    address = study.section().engine.address
    return _start_there(study, address) if address.startswith(CLIENT) else start_pool(study, DRIVER_MODULE)


def _start_there(study: StudyDir, address: str) -> str:
    """Start the driver on a node of the cluster, through Ray's client; return its id.

    The client may leave at once: the driver is a process of its own there.

    Raises
    ------
    SiteError
        The cluster does not answer, or the driver does not start.
    """
    import ray

    connect(address, _ADDRESS)
    folder, python, module = str(study.path), sys.executable, DRIVER_MODULE
    own_code = environment_of_ranks().get("PYTHONPATH")

    def start() -> tuple[int, str]:
        import os
        import subprocess
        import sys

        environment = {**os.environ, **({"PYTHONPATH": own_code} if own_code else {})}
        command = [python if os.path.exists(python) else sys.executable, "-u", "-m", module, folder, "auto"]
        with open(os.path.join(folder, "pool.log"), "ab") as log:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE, text=True
            )
        return done.returncode, done.stderr

    try:
        code, said = ray.get(ray.remote(num_cpus=0)(start).remote())
    except Exception as error:  # the folder is not there, the node died, and what else Ray passes on
        raise SiteError(f"the trials did not start on the Ray cluster at '{address}': {error}") from error
    finally:
        ray.shutdown()
    if code:
        raise SiteError(f"the trials did not start on the Ray cluster at '{address}': {said.strip()[-500:]}")
    return f"local-{lock_path(study).read_text()}"


def drive(study: StudyDir, address: str, begun: Callable[[], None]) -> int:
    """Run until no trial is left; return the exit code.

    Parameters
    ----------
    study : StudyDir
    address : str
        ``auto`` or ``HOST:PORT``.
    begun : callable
        Called once Ray has answered.

    Raises
    ------
    SiteError
        Ray does not answer.
    """
    section, launch = study.section(), study.base_profile().launch
    need_ray(_KEY)
    os.environ.update(QUIET)
    import ray
    from ray import tune

    connect(address, _ADDRESS)
    begun()
    threading.Thread(target=end_with_node, args=(SiteError.exit_code,), daemon=True).start()
    resources = {"cpu": launch.ranks_on_each_node * launch.cpus_per_rank, "gpu": launch.gpus_per_node}
    if launch.memory_gib_per_node:
        resources["memory"] = launch.memory_gib_per_node * 2**30
    if not _has_room(ray.nodes(), resources):
        wanted = f"{resources['cpu']} CPUs and {resources['gpu']} GPUs"
        print(f"hpctrain: no node of Ray has {wanted}; trials wait until one joins", file=sys.stderr, flush=True)
    count = study.read_record().trials
    tuner = tune.Tuner(
        tune.with_resources(_trainable(study), resources),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(NextNumber(study)),
            num_samples=count,
            max_concurrent_trials=min(section.parallel, count),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=new_run_id(),
            storage_path=str(study.path / "ray"),
            failure_config=tune.FailureConfig(max_failures=launch.max_attempts),
            verbose=0,
        ),
    )
    for result in tuner.fit():
        if result.error is not None:
            number, said = (result.config or {}).get("number"), str(result.error).strip().splitlines()
            print(f"hpctrain: trial {number}: {said[-1] if said else 'failed'}", file=sys.stderr, flush=True)
    ray.shutdown()
    mirror(study, section, read_trials(study))
    return 0


def _has_room(nodes: Sequence[dict[str, Any]], resources: dict[str, float]) -> bool:
    """Return whether a node, all else idle, could run one trial."""
    return any(
        node["Alive"] and all(node["Resources"].get(_NAMES[kind], 0.0) >= amount for kind, amount in resources.items())
        for node in nodes
    )


_NAMES = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}
"""How Ray calls resources of nodes, by how Tune calls them."""


def _trainable(study: StudyDir) -> Callable[[dict[str, Any]], None]:
    """Return what Ray runs on a node for each trial: a process of ours, with the Python of this one if it is there.

    Ray sends the function itself, which imports nothing of ours: the process of Ray need not know hpctrain.
    """
    folder, python, module = str(study.path), sys.executable, TRIAL_MODULE
    path = environment_of_ranks().get("PYTHONPATH")

    def train_trial(config: dict[str, Any]) -> None:
        import os
        import subprocess
        import sys

        from ray import tune

        trial = os.path.join(folder, str(config["number"]))
        environment = {**os.environ, **({"PYTHONPATH": path} if path else {})}
        command = [python if os.path.exists(python) else sys.executable, "-u", "-m", module, trial]
        with open(os.path.join(trial, "logs", "supervisor.log"), "ab") as log:
            code = subprocess.call(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if code < 0:  # killed, so what it did is not on record: Tune starts it again
            raise RuntimeError(f"the process of trial {trial} was ended by signal {-code}")
        tune.report({"exit_code": code})

    return train_trial


def _searcher(numbers: NextNumber) -> Any:
    """Return what Tune asks for its next trial."""
    from ray.tune.search import Searcher

    class Numbers(Searcher):  # type: ignore[misc]
        def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> Any:
            number = numbers.next()
            if number == OVER:
                return Searcher.FINISHED
            return None if number is None else {"number": number}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Learn nothing: the sampler reads the files of the trials."""

        def save(self, checkpoint_path: str) -> None:
            write_json(Path(checkpoint_path), {})

        def restore(self, checkpoint_path: str) -> None:
            """Restore nothing: the numbers come from the files of the trials."""

    return Numbers()


def main(arguments: Sequence[str]) -> int:
    """Run the trials of the study named on the command line in a process of its own; return once Ray has answered."""
    tolerate_full_log()
    study = StudyDir(arguments[0])
    enter(study.path)
    address = arguments[1] if len(arguments) > 1 else study.section().engine.address
    return in_background(study, lambda begun: drive(study, address, begun))


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
