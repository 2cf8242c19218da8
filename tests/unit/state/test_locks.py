"""Locks exclude threads and processes; a killed process releases its locks."""

import multiprocessing
import threading
import time

import pytest

from buckler.state import locks


def hold(path, held) -> None:
    with locks.exclusive(path):
        held.set()
        time.sleep(600)


def test_a_lock_is_waited_for_and_a_killed_process_releases_it(tmp_path):
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


def test_a_lock_is_waited_for_with_a_limit(tmp_path):
    path, began = tmp_path / "lock", time.monotonic()
    with (
        locks.exclusive_at_once(path),
        pytest.raises(locks.HeldError, match=r"has held .*lock for 0\.3 s"),
        locks.exclusive(path, seconds=0.3),
    ):
        pass
    assert time.monotonic() - began < 10
    with locks.exclusive(path, seconds=0.3):
        assert locks.is_held(path)


def test_a_held_lock_is_reported_at_once_and_the_query_does_not_hold_it(tmp_path):
    path = tmp_path / "lock"
    with locks.exclusive_at_once(path):
        assert locks.is_held(path)
        with pytest.raises(locks.HeldError, match="lock"), locks.exclusive_at_once(path):
            pass
    assert not locks.is_held(path)
    with locks.exclusive_at_once(path):
        pass


def test_readers_share_a_lock_and_a_writer_waits_for_them(tmp_path):
    path, written = tmp_path / "lock", threading.Event()
    path.touch()

    def write() -> None:
        with locks.exclusive(path):
            written.set()

    writer = threading.Thread(target=write)
    with locks.shared(path), locks.shared(path):
        writer.start()
        assert not written.wait(0.3)
    assert written.wait(60)
    writer.join()
