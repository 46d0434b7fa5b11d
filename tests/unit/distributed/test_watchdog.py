"""The watchdog ends a process that hangs, after it has written its stacks to a file."""

import subprocess
import sys
import textwrap

import pytest

from hpctrain.errors import EXIT_RANKS_LOST

PROGRAM = textwrap.dedent(
    """
    import sys, threading, time
    from pathlib import Path
    from hpctrain.distributed.watchdog import START_UP_S, Watchdog

    class Clock:
        now_s = looks = 0

        def __call__(self):
            self.looks += 1
            return self.now_s

    def wait_for_a_rank_that_is_gone():
        threading.Event().wait()

    def let_it_look():
        before = clock.looks
        while limit_s is not None and clock.looks < before + 2:
            time.sleep(0.001)

    clock, limit_s = Clock(), None if sys.argv[2] == "none" else float(sys.argv[2])
    watchdog = Watchdog(limit_s, Path(sys.argv[1]), lambda: "rank 3 at step 7, training", clock).start()
    clock.now_s += START_UP_S
    for _ in range(5):
        let_it_look()
        watchdog.progress()
        clock.now_s += 0.9 * (limit_s or 1000)
    let_it_look()
    if sys.argv[3] == "hang":
        clock.now_s += limit_s
        wait_for_a_rank_that_is_gone()
    watchdog.end()
    for thread in threading.enumerate():
        if thread.name == "watchdog":
            thread.join()
    """
)


def _run(stacks, limit, what):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(stacks), limit, what],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hang_ends_the_process_with_its_stacks_in_a_file(tmp_path):
    done = _run(tmp_path / "stacks.txt", "0.5", "hang")
    assert done.returncode == EXIT_RANKS_LOST
    assert "rank 3 at step 7, training" in done.stderr
    assert "wait_for_a_rank_that_is_gone" in (tmp_path / "stacks.txt").read_text()


def test_a_link_planted_under_the_name_of_the_stacks_is_put_aside_and_its_target_is_untouched(tmp_path):
    target = tmp_path / "somebody-elses.txt"
    target.write_text("years of work")
    (tmp_path / "stacks.txt").symlink_to(target)
    assert _run(tmp_path / "stacks.txt", "0.5", "hang").returncode == EXIT_RANKS_LOST
    assert target.read_text() == "years of work"
    assert not (tmp_path / "stacks.txt").is_symlink()
    assert "wait_for_a_rank_that_is_gone" in (tmp_path / "stacks.txt").read_text()


@pytest.mark.slow
def test_progress_within_the_limit_and_an_end_of_the_watch_are_left_alone(tmp_path):
    assert _run(tmp_path / "stacks.txt", "0.5", "end").returncode == 0
    assert _run(tmp_path / "stacks.txt", "none", "end").returncode == 0
    assert not (tmp_path / "stacks.txt").exists()
