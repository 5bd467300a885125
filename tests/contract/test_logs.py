"""What is logged in workers is handled in the parent, as if it had been logged there."""

from __future__ import annotations

import ctypes
import logging
import logging.handlers
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, leave, pid_of, run_script, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

logger = logging.getLogger("contract.logs")


class Kept(logging.Handler):
    """Keeps the records that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def log(message: str, *arguments: object, level: int = logging.INFO, **more: Any) -> int:
    logger.log(level, message, *arguments, **more)
    return os.getpid()


def test_a_record_tells_what_and_where(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1) as executor:
        pid = executor.submit(log, "%s", "text", extra={"user": "bob"}).result()
    (record,) = kept.records
    assert record.getMessage() == "text"
    assert (record.process, record.worker, record.user) == (pid, 1, "bob")
    assert record.processName == "HybridWorker-1"
    assert record.call.startswith("log(")
    assert record.funcName == "log"


def fail() -> None:
    try:
        raise KeyError("the key")
    except KeyError:
        logger.exception("it failed: %r", threading.Lock())


def test_an_error_and_what_cannot_be_pickled_arrive_as_text(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1) as executor:
        executor.submit(fail).result()
    (record,) = kept.records
    assert "KeyError: 'the key'" in record.exc_text
    assert "Lock" in record.getMessage()
    assert record.call == "fail()"


def log_all(*levels: int) -> None:
    for level in levels:
        assert logger.isEnabledFor(level) == (level >= logging.INFO)
        logger.log(level, "%d", level)


def test_levels_are_those_of_the_parent(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1) as executor:
        executor.submit(log_all, logging.DEBUG, logging.INFO, logging.ERROR).result()
    assert kept.messages == [str(logging.INFO), str(logging.ERROR)]


def test_a_change_of_levels_is_followed(make_each: Make, kept: Kept, gate: Gate) -> None:
    with make_each(max_workers=1) as executor:
        executor.submit(log, "once").result()
        waiting = executor.submit(gate.wait, "one")  # while a call runs, the parent looks
        logger.setLevel(logging.DEBUG)

        def heard() -> bool:
            executor.submit(log, "now", level=logging.DEBUG).result()
            return "now" in kept.messages

        wait_until(heard)
        gate.open()
        waiting.result()
    assert kept.messages[0] == "once"


def initialize(message: str) -> None:
    logger.info(message)


def test_the_initializer_logs_too(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1, initializer=initialize, initargs=("begins",)) as executor:
        executor.submit(pid_of).result()
    assert kept.messages == ["begins"]
    assert kept.records[0].call == ""


def initialize_badly() -> None:
    raise OSError("no such disk")


def test_why_an_initializer_failed_is_logged_here(
    make_each: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with make_each(max_workers=1, initializer=initialize_badly) as executor:
        assert executor.submit(pid_of).exception() is not None
    (record,) = [record for record in caplog.records if record.name == "concurrent.futures"]
    assert record.getMessage() == "Exception in initializer:"
    assert "no such disk" in (record.exc_text or "")


def log_elsewhere(gate: Gate) -> None:
    import gevent

    thread = threading.Thread(target=log, args=("thread",))
    thread.start()
    thread.join()
    gevent.spawn(log, "greenlet").join()
    gevent.get_hub().threadpool.apply(log, ("native thread",))
    gevent.get_hub().loop.run_callback(log, "hub")
    gevent.sleep(0.01)
    pid = os.fork()
    if not pid:
        log("a process of its own")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    log("call")


def test_records_come_from_everywhere_but_forked_processes(
    make_each: Make, kept: Kept, gate: Gate
) -> None:
    with make_each(max_workers=1) as executor:
        executor.submit(log_elsewhere, gate).result()
    assert kept.messages == ["thread", "greenlet", "native thread", "hub", "call"]
    calls = [record.call.partition("(")[0] for record in kept.records]
    assert calls == ["log_elsewhere", "log_elsewhere", "", "", "log_elsewhere"]


def log_at_exit(message: str) -> None:
    # Unlike atexit's, these are called in forked processes, too.
    util.Finalize(None, log, (message,), exitpriority=0)


def test_the_last_words_of_a_worker_that_ends_arrive(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1) as executor:
        executor.submit(log_at_exit, "goodbye").result()
    assert kept.messages == ["goodbye"]


@pytest.mark.slow
def test_nothing_is_lost_when_workers_are_recycled(make: Make, kept: Kept) -> None:
    with make(max_workers=2, max_tasks_per_child=20) as executor:
        list(executor.map(log, map(str, range(200))))
    assert sorted(map(int, kept.messages)) == list(range(200))


def kill() -> None:
    log("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def exit_hard() -> None:
    log("last words")
    leave(3)


def crash() -> None:
    log("last words")
    ctypes.string_at(0)


@pytest.mark.parametrize("die", [kill, exit_hard, crash])
def test_what_was_logged_just_before_a_death_arrives(
    make_each: Make, kept: Kept, die: Callable[[], None]
) -> None:
    with make_each(max_workers=1) as executor:
        assert isinstance(executor.submit(die).exception(), WorkerLost)
    assert kept.messages == ["last words"]


def log_many(count: int) -> None:
    for number in range(count):
        logger.info("%d", number)


def log_and_die(count: int) -> None:
    log_many(count)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_after_many_records_loses_none(make: Make, kept: Kept) -> None:
    with make(max_workers=1) as executor:
        executor.submit(log_and_die, 2000).exception()
    assert kept.messages == list(map(str, range(2000)))


class Blocked(Kept):
    def __init__(self) -> None:
        super().__init__()
        self.entered, self.open = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        assert self.open.wait(60)
        super().emit(record)


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    handler = Blocked()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    handler.open.set()
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_handler_that_blocks_holds_up_no_call(make_each: Make, blocked: Blocked) -> None:
    with make_each(max_workers=2) as executor:
        executor.submit(log, "first").result()
        assert blocked.entered.wait(30)
        assert len(list(executor.map(log, map(str, range(1000))))) == 1000
        executor.shutdown(wait=False)
        blocked.open.set()
    assert len(blocked.messages) == 1001


@pytest.mark.slow
def test_much_from_many_calls_is_there_or_counted(make: Make, kept: Kept) -> None:
    with make(max_workers=2) as executor:
        list(executor.map(log_many, [10] * 10_000))
        executor.shutdown()
        dropped = executor.stats().logs_dropped
    assert len(kept.records) + dropped == 100_000


def shut_down_from_a_handler(executor: HybridExecutor) -> logging.Handler:
    class Ending(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            executor.shutdown(wait=True)  # returns at once, as from a callback

    return Ending()


def test_a_handler_may_shut_the_executor_down(make_each: Make, kept: Kept) -> None:
    executor = make_each(max_workers=1)
    handler = shut_down_from_a_handler(executor)
    logger.addHandler(handler)
    try:
        executor.submit(log, "end").result()
        wait_until(lambda: executor._engine.closed)
        executor.shutdown()
    finally:
        logger.removeHandler(handler)
    assert kept.messages == ["end"]


def test_it_can_be_switched_off(make_each: Make, kept: Kept) -> None:
    with make_each(max_workers=1, worker_logs=False) as executor:
        executor.submit(log, "here", level=logging.DEBUG).result()
        executor.submit(log, "here").result()
    assert kept.messages == []


def log_to_file(path: str) -> None:
    logging.basicConfig(filename=path, level=logging.DEBUG, format="%(message)s")


def test_a_workers_own_handlers_work(make_each: Make, kept: Kept, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    own = {"initializer": log_to_file, "initargs": (path,)}
    with make_each(max_workers=1, **own) as executor:
        executor.submit(log, "both").result()
        executor.submit(_log_debug).result()
    # A forked worker has pytest's handlers, so basicConfig does nothing there.
    assert kept.messages == ["both"]
    if Path(path).exists():
        assert Path(path).read_text() == "both\nonly the worker's\n"


def _log_debug() -> None:
    logging.getLogger("contract.other").debug("only the worker's")


def forward(queue: Any) -> None:
    logger.addHandler(logging.handlers.QueueHandler(queue))


@pytest.mark.this_machine("a queue connects processes of one machine")
def test_a_queue_handler_of_the_workers_is_not_doubled(make_each: Make, kept: Kept) -> None:
    queue: Any = multiprocessing.get_context("spawn").Queue()
    listener = logging.handlers.QueueListener(queue, kept)
    listener.start()
    try:
        with make_each(max_workers=1, initializer=forward, initargs=(queue,)) as executor:
            executor.submit(log, "one").result()
            executor.submit(log, "two").result()
    finally:
        listener.stop()
        queue.close()
    assert kept.messages == ["one", "two"]


SCRIPT = """
import logging, multiprocessing, sys
from hybridexec import HybridExecutor

if {everywhere} or __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s", **{to})

def work():
    logging.getLogger("app").warning("from a call")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context, {more}) as executor:
        executor.submit(work).result()
    print("done")
"""


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_script_that_logs_to_stderr_does_so_once(
    method: str, tmp_path: Path, everywhere: bool
) -> None:
    text = SCRIPT.format(everywhere=everywhere, to={}, more="")
    done = run_script(tmp_path / "script.py", text, method)
    assert done.stderr.splitlines() == ["WARNING from a call"]


def test_a_script_that_logs_to_a_file_does_so_once(method: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = SCRIPT.format(everywhere=True, to={"filename": str(path)}, more="")
    assert run_script(tmp_path / "script.py", text, method).stderr == ""
    assert path.read_text() == "WARNING from a call\n"


def test_a_script_whose_workers_set_up_stderr_themselves(method: str, tmp_path: Path) -> None:
    text = SCRIPT.format(everywhere=False, to={}, more="initializer=logging.basicConfig")
    done = run_script(tmp_path / "script.py", text, method)
    assert done.stderr.splitlines() == ["WARNING from a call"]


BARE = """
import logging, multiprocessing, sys
from hybridexec import HybridExecutor

def work():
    logging.getLogger("app").warning("from a call")
    logging.getLogger("app").info("nobody wants that")

if __name__ == "__main__":
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1]), {more}) as executor:
        executor.submit(work).result()
"""


def test_a_script_that_sets_up_nothing(method: str, tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", BARE.format(more=""), method)
    assert done.stderr.splitlines() == ["from a call"]


def test_only_workers_set_up_stderr(method: str, tmp_path: Path) -> None:
    text = BARE.format(more="initializer=logging.basicConfig")
    done = run_script(tmp_path / "script.py", text, method)
    assert done.stderr.splitlines() == ["WARNING:app:from a call"]


PATCHED = """
from gevent import monkey
monkey.patch_all()
import logging, multiprocessing, sys, time
import gevent
from hybridexec import HybridExecutor

class Slow(logging.Handler):
    def emit(self, record):
        time.sleep(0.001)
        print(record.getMessage(), flush=True)

def work(number):
    logging.getLogger("app").warning("%d", number)

if __name__ == "__main__":
    logging.getLogger("app").addHandler(Slow())
    with HybridExecutor(2, multiprocessing.get_context(sys.argv[1])) as executor:
        list(executor.map(work, range(300)))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_parent_that_gevent_has_patched(method: str, tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", PATCHED, method)
    assert sorted(map(int, done.stdout.split())) == list(range(300))
    assert done.stderr == ""


AT_EXIT = """
import logging, multiprocessing, sys, time
from hybridexec import HybridExecutor

class Slow(logging.Handler):
    def emit(self, record):
        time.sleep(0.01)
        print(record.getMessage(), flush=True)

def work(number):
    logging.getLogger("app").warning("%d", number)

if __name__ == "__main__":
    logging.getLogger("app").addHandler(Slow())
    executor = HybridExecutor(2, multiprocessing.get_context(sys.argv[1]))
    futures = [executor.submit(work, number) for number in range(50)]
    executor.shutdown(wait=False)
"""


def test_the_interpreters_exit_waits_for_records(method: str, tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", AT_EXIT, method)
    assert sorted(map(int, done.stdout.split())) == list(range(50))
    assert done.stderr == ""


def log_and_keep_the_hub(gate: Gate) -> None:
    log("while it runs")
    gate.hog("one")


def test_a_call_that_keeps_the_hub_is_heard(make: Make, kept: Kept, gate: Gate) -> None:
    with make(max_workers=1) as executor:
        future = executor.submit(log_and_keep_the_hub, gate)
        wait_until(lambda: kept.messages == ["while it runs"])
        gate.open()
        future.result()
