"""The world is read from whoever launched the process, and nothing else decides ranks."""

import pytest

from hpctrain.distributed.world import World, main_address
from hpctrain.errors import SiteError

SRUN = {
    "SLURM_JOB_ID": "42",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "7",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_RESTART_COUNT": "2",
}


def test_a_process_with_no_launcher_is_alone():
    assert World.from_environment({}) == World()


def test_a_task_of_srun_reads_its_place():
    world = World.from_environment(SRUN)
    assert (world.rank, world.world_size, world.local_rank, world.local_world_size) == (5, 7, 1, 3)
    assert (world.num_nodes, world.job_id, world.restart_count, world.launcher) == (2, "42", 2, "slurm")


def test_a_repeated_task_count_is_expanded():
    world = World.from_environment({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4(x2)"})
    assert world.local_world_size == 4


def test_a_batch_shell_is_not_a_task_though_it_has_a_procid():
    assert World.from_environment({"SLURM_JOB_ID": "42", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}).world_size == 1


def test_torchrun_inside_a_job_wins_over_srun():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    world = World.from_environment({**SRUN, **torchrun})
    assert (world.rank, world.world_size, world.num_nodes, world.launcher) == (3, 4, 2, "torchrun")
    assert world.job_id == "42"


def test_an_element_of_an_array_is_named_as_slurm_names_it():
    world = World.from_environment({**SRUN, "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"})
    assert world.job_id == "40_2"


@pytest.mark.parametrize("broken", [{"RANK": "x"}, {"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "0", "WORLD_SIZE": ""}])
def test_an_environment_that_contradicts_itself_is_refused(broken):
    with pytest.raises(SiteError, match="environment"):
        World.from_environment({"RANK": "0", "WORLD_SIZE": "4", **broken})


def test_a_given_address_is_believed_and_outside_slurm_everything_is_here():
    assert main_address({"MASTER_ADDR": "n7"}) == "n7"
    assert main_address({}) == "127.0.0.1"
