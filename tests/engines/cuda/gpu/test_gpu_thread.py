"""The owning thread: where work runs, who opens and closes, and how it ends with the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest

from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread
from edgeq.errors import EngineError


class Owned:
    """Remembers the thread of its making and of its end."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.closed_on: threading.Thread | None = None

    def close(self) -> None:
        self.closed_on = threading.current_thread()


def owner() -> OwnerThread[Owned]:
    return OwnerThread("owner", Owned, Owned.close)


def test_the_first_user_starts_the_thread_and_the_last_one_ends_it():
    thread, before = owner(), threading.active_count()
    assert not thread.is_running
    thread.acquire()
    thread.acquire()
    owned = thread.call(lambda it: it)
    thread.release()
    assert thread.is_running
    assert owned.closed_on is None
    thread.release()
    assert not thread.is_running
    assert owned.closed_on is owned.thread
    assert threading.active_count() == before


def test_a_thread_that_ended_starts_again_with_a_new_resource():
    thread = owner()
    found = []
    for _ in range(2):
        thread.acquire()
        found.append(thread.call(lambda it: it))
        thread.release()
    assert found[0] is not found[1]


def test_work_of_every_thread_runs_on_the_one_thread_in_turn():
    thread, order = owner(), []
    thread.acquire()
    where = [thread.call(lambda it: (it.thread, threading.current_thread()))]

    def work(number: int) -> None:
        where.append(thread.call(lambda it: (it.thread, threading.current_thread())))
        order.append(number)

    callers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    thread.release()
    assert sorted(order) == list(range(8))
    assert {id(made) for made, _ in where} == {id(ran) for _, ran in where}
    assert len({id(ran) for _, ran in where}) == 1


def test_what_work_raises_is_raised_where_it_is_waited_for():
    thread = owner()
    thread.acquire()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda _: 1 // 0)
    assert thread.call(lambda _: 7) == 7
    thread.release()


def test_what_failed_work_held_is_freed_on_the_owning_thread():
    class Handle:
        def __init__(self) -> None:
            weakref.finalize(self, lambda: freed_on.append(threading.current_thread()))

    def work(it: Owned) -> None:
        handle = Handle()
        try:
            raise ValueError(f"{handle!r} cannot be used")
        except ValueError as error:
            raise RuntimeError("the work failed") from error

    thread, freed_on = owner(), []
    thread.acquire()
    gc.disable()
    try:
        with pytest.raises(RuntimeError) as caught:
            thread.call(work)
    finally:
        gc.enable()
    assert freed_on == [thread.call(lambda it: it.thread)]
    assert caught.value.__cause__ is not None
    thread.release()


def test_opening_that_fails_reaches_the_user_and_leaves_no_thread():
    def refuse() -> Owned:
        raise EngineError("no device")

    thread, before = OwnerThread("owner", refuse, Owned.close), threading.active_count()
    for _ in range(2):
        with pytest.raises(EngineError, match="no device"):
            thread.acquire()
    assert (thread.users, threading.active_count()) == (0, before)
    with pytest.raises(EngineError, match="does not run"):
        thread.call(lambda _: 1)


def test_closing_that_fails_reaches_the_last_user_and_the_thread_is_gone():
    def refuse(_: Owned) -> None:
        raise EngineError("cannot free")

    thread = OwnerThread("owner", Owned, refuse)
    thread.acquire()
    with pytest.raises(EngineError, match="cannot free"):
        thread.release()
    assert not thread.is_running
    thread.acquire()
    assert thread.is_running
    with pytest.raises(EngineError, match="cannot free"):
        thread.release()


def test_work_handed_over_before_the_end_is_done_and_after_it_refused():
    thread, gate = owner(), threading.Event()
    thread.acquire()
    first = thread.submit(lambda _: gate.wait(5))
    second = thread.submit(lambda _: "done")
    assert not second.is_done
    closing = threading.Thread(target=thread.release)
    closing.start()
    gate.set()
    closing.join()
    assert (first.result(), second.result(), second.is_done) == (True, "done", True)
    for use in (thread.call, thread.call_here, thread.submit):
        with pytest.raises(EngineError, match="does not run"):
            use(lambda _: 1)


def test_a_borrower_has_the_resource_to_itself_on_its_own_thread():
    thread, inside = owner(), threading.Event()
    thread.acquire()

    def borrow(it: Owned) -> tuple[threading.Thread, bool]:
        inside.set()
        other = thread.submit(lambda _: None)
        time.sleep(0.02)
        return threading.current_thread(), other.is_done

    assert thread.call_here(borrow) == (threading.current_thread(), False)
    assert inside.is_set()
    thread.release()


def test_users_come_and_go_on_many_threads_at_once():
    thread, errors = owner(), []

    def use() -> None:
        for _ in range(20):
            thread.acquire()
            try:
                thread.call(lambda it: errors.append("closed") if it.closed_on else None)
                thread.call_here(lambda it: errors.append("closed") if it.closed_on else None)
            finally:
                thread.release()

    users = [threading.Thread(target=use) for _ in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert errors == []
    assert (thread.users, thread.is_running) == (0, False)


ENDINGS = """
import threading
from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread

thread = OwnerThread("owner", lambda: ["open"], lambda held: print("closed", *held, flush=True))
thread.acquire()
"""


@pytest.mark.parametrize(
    "ending",
    ["", "raise SystemExit(3)", "threading.Thread(target=lambda: thread.call(print)).start()"],
    ids=["end of file", "exit status", "a caller that is still there"],
)
def test_the_interpreter_ends_a_thread_that_nobody_ended(ending):
    done = subprocess.run(
        [sys.executable, "-c", ENDINGS + ending],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (3 if "3" in ending else 0)
    assert done.stdout.endswith("closed open\n")
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_refused_instead_of_waiting_for_ever():
    thread = owner()
    thread.acquire()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, for the threads
        child = os.fork()
    if child == 0:
        refused = 0
        for use in (thread.call, thread.call_here):
            try:
                use(lambda _: 1)
            except EngineError:
                refused += 1
        os.write(writer, b"%d" % refused)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"2"
    os.close(reader)
    os.waitpid(child, 0)
    thread.release()
