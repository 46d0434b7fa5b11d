"""A signal sets a flag; a deadline works without one; only an impatient second TERM ends the process at once."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hpctrain.distributed.stop import EXIT_TERMINATED, StopRequest


def test_before_the_deadline_nothing_is_asked_and_within_the_lead_a_stop_is():
    now = [1000.0]
    stop = StopRequest(deadline_s=2000.0, lead_s=100.0, clock=lambda: now[0])
    assert stop.flags() == (0.0, 0.0)
    now[0] = 1900.0
    assert stop.flags() == (1.0, 0.0)
    assert stop.cause == "deadline"


def test_the_deadline_comes_from_the_batch_script(monkeypatch):
    monkeypatch.setenv("HPCTRAIN_DEADLINE", str(int(time.time()) + 10))
    assert StopRequest.from_environment(lead_s=60).flags() == (1.0, 0.0)
    monkeypatch.setenv("HPCTRAIN_DEADLINE", "UNLIMITED")
    assert StopRequest.from_environment(lead_s=60).flags() == (0.0, 0.0)


PROGRAM = textwrap.dedent(
    """
    import ctypes, sys
    from pathlib import Path
    from hpctrain.distributed.stop import StopRequest

    def elapsed_s():
        now_s = float(Path(sys.argv[1]).read_text())
        print("heard", flush=True)
        return now_s

    stop = StopRequest(elapsed_s=elapsed_s)
    stop.saving = "saving" in sys.argv
    stop.install()
    print("ready", flush=True)
    if "stuck" in sys.argv:
        mutex, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    sys.stdin.readline()
    print(stop.cause, *stop.flags(), flush=True)
    """
)


class Process:
    """A process that listens to signals, on a clock of its own that stands still."""

    def __init__(self, clock, *how):
        self._clock = clock
        self.at(0.0)
        command = [sys.executable, "-c", PROGRAM, str(clock), *how]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._says() == "ready"

    def _says(self):
        return self._process.stdout.readline().strip()

    def at(self, seconds):
        self._clock.write_text(str(seconds))

    def send(self, number):
        self._process.send_signal(number)
        if number != signal.SIGUSR2:  # a warning is not asked for its time
            assert self._says() == "heard"

    def answer(self):
        """Return what it was asked to do, and that it ends by itself."""
        said = self._process.communicate("\n")[0].strip()
        assert self._process.returncode == 0
        return said

    def exit_code(self):
        """Return how it ended, without having been asked to: its standard input stays open until then."""
        code = self._process.wait()
        self._process.communicate()
        return code


@pytest.mark.parametrize(
    ("number", "answer"),
    [(signal.SIGUSR2, "USR2 1.0 0.0"), (signal.SIGTERM, "TERM 1.0 0.0"), (signal.SIGINT, "INT 1.0 1.0")],
)
def test_usr2_and_term_ask_for_a_requeue_and_ctrl_c_for_an_end(tmp_path, number, answer):
    process = Process(tmp_path / "clock")
    process.send(number)
    assert process.answer() == answer


def test_warning_and_terms_of_one_time_limit_end_nothing_and_a_later_term_ends_at_once(tmp_path):
    process = Process(tmp_path / "clock")
    process.send(signal.SIGUSR2)
    process.at(60.0)
    process.send(signal.SIGTERM)
    process.at(60.1)
    process.send(signal.SIGTERM)  # after the warning, Slurm sends TERM twice within milliseconds
    process.at(62.5)
    process.send(signal.SIGTERM)
    assert process.exit_code() == EXIT_TERMINATED


def test_a_rank_that_waits_for_another_in_a_collective_leaves_at_the_second_term_too(tmp_path):
    """Its main thread is not in the interpreter, so no handler of Python's runs; here it waits for itself."""
    process = Process(tmp_path / "clock", "stuck")
    process.send(signal.SIGTERM)
    process.at(2.3)
    process.send(signal.SIGTERM)
    assert process.exit_code() == EXIT_TERMINATED


def test_a_save_in_progress_is_not_cut_short_by_a_second_term(tmp_path):
    process = Process(tmp_path / "clock", "saving")
    process.send(signal.SIGTERM)
    process.at(2.3)
    process.send(signal.SIGTERM)
    assert process.answer() == "TERM 1.0 0.0"


def test_a_signal_that_comes_before_the_handler_is_kept_not_lost():
    program = textwrap.dedent(
        """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGUSR2)
        from hpctrain.distributed.stop import StopRequest
        stop = StopRequest()
        stop.install()
        print(stop.cause)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "USR2"
