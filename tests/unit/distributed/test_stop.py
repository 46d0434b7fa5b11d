"""A signal sets a flag; a deadline works without one; only an impatient second TERM ends the process at once."""

import os
import signal
import subprocess
import sys
import textwrap
import time

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
    import sys, time
    from hpctrain.distributed.stop import StopRequest
    stop = StopRequest()
    stop.saving = len(sys.argv) > 1
    stop.install()
    print("ready", flush=True)
    for _ in range(200):
        time.sleep(0.02)
        if stop.cause:
            print(stop.cause, *stop.flags(), flush=True)
            break
    time.sleep(6)
    """
)


def _start(*arguments):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_usr2_and_term_ask_for_a_requeue_and_ctrl_c_for_an_end():
    for number, answer in (
        (signal.SIGUSR2, "USR2 1.0 0.0"),
        (signal.SIGTERM, "TERM 1.0 0.0"),
        (signal.SIGINT, "INT 1.0 1.0"),
    ):
        process = _start()
        process.send_signal(number)
        assert process.stdout.readline().strip() == answer
        process.kill()
        process.communicate()


def test_warning_and_terms_of_one_time_limit_end_nothing_and_a_later_term_ends_at_once():
    process = _start()
    process.send_signal(signal.SIGUSR2)
    process.stdout.readline()
    time.sleep(2.3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None, "after the warning, Slurm sends TERM twice within milliseconds"
    time.sleep(2.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == EXIT_TERMINATED
    process.communicate()


def test_a_rank_that_waits_for_another_in_a_collective_leaves_at_the_second_term_too():
    """Its main thread is not in the interpreter, so no handler of Python's runs; here it waits for itself."""
    program = textwrap.dedent(
        """
        import ctypes
        from hpctrain.distributed.stop import StopRequest
        StopRequest().install()
        mutex, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
        libc.pthread_mutex_lock(mutex)
        print("ready", flush=True)
        libc.pthread_mutex_lock(mutex)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(2.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == EXIT_TERMINATED
    process.communicate()


def test_a_save_in_progress_is_not_cut_short_by_a_second_term():
    process = _start("saving")
    process.send_signal(signal.SIGTERM)
    process.stdout.readline()
    time.sleep(2.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 0
    process.communicate()


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
