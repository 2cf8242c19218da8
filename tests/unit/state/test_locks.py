"""One holder at a time, in threads and processes; a killed holder holds nothing."""

import multiprocessing
import threading
import time

from buckler.state import locks


def hold(path, held) -> None:
    with locks.exclusive(path):
        held.set()
        time.sleep(600)


def test_a_killed_process_releases_its_lock_and_a_living_one_is_waited_for(tmp_path):
    path, context = tmp_path / "lock", multiprocessing.get_context("spawn")
    held, entered = context.Event(), threading.Event()

    def enter() -> None:
        with locks.exclusive(path):
            entered.set()

    holder, waiter = context.Process(target=hold, args=(path, held)), threading.Thread(target=enter)
    holder.start()
    assert held.wait(60)
    waiter.start()
    assert not entered.wait(0.3)
    holder.kill()
    assert entered.wait(60)
    waiter.join()
    holder.join()
    assert path.stat().st_mode & 0o777 == 0o600
