"""A storm: a random mix of calls and accidents in all lanes, from one seed, and what must hold.

- Every future and every stream ends within a bound, and each is delivered once.
- What ends well has the right value; what fails has the error that was planned, or one that an
  accident of this very storm explains: `WorkerLost` of a worker that was killed, a cancellation.
- With ``on_worker_loss="fail"`` no call has run more often than its retries allow, and one that was
  lost ran, if it did, in the worker that died.
- Afterwards nothing is left: see :mod:`chaos.leftovers`.
"""

from __future__ import annotations

import faulthandler
import functools
import gc
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hybridexec import HybridExecutor, WorkerLost
from hybridexec.options import LANES, OnWorkerLoss

from . import calls
from .calls import RETRIED, Plan
from .streams import BOUND, Stream

#: How many of the last actions a failure shows.
SHOWN = 80


class Storm:
    """One executor's life in bad weather."""

    def __init__(self, seed: int, method: str, mode: OnWorkerLoss, folder: Path) -> None:
        self._rng = rng = random.Random(seed)
        self._title = f"seed {seed}, {method}, on_worker_loss={mode!r}"
        self._mode = mode
        self._folder = folder
        self._began = time.monotonic()
        self._log: list[str] = []
        self._arguments: dict[str, Any] = {
            "max_workers": rng.randint(1, 3),
            "concurrency": rng.choice([1, 3, 50]),
            "threads": rng.choice([1, 3, 20]),
            "idle_timeout": rng.choice([None, None, 0.2]),
            "max_tasks_per_child": rng.choice([None, None, None, 40]),
            "max_pending": rng.choice([None, None, 60]),
            # Longer than workers are stopped: else late calls would cost theirs, unplanned.
            "timeout_grace": 10.0,
        }
        self._executor: HybridExecutor | None = HybridExecutor(
            mp_context=multiprocessing.get_context(method),
            initializer=calls.arm,
            initargs=(str(folder),),
            on_worker_loss=mode,
            **self._arguments,
        )
        self._lanes = rng.sample(LANES, rng.choice([1, 2, 3, 3, 3]))
        # Limits are a view's and of those that are made from it: these are for all calls together.
        self._views: list[Any] = [
            self._executor.options(),
            self._executor.options(rate=400),
            self._executor.options(key=_key_of, per_key=3, rate_per_key=100),
        ]
        self._calls = 0
        self._futures: dict[int, tuple[Plan, Future[Any]]] = {}
        self._delivered: Counter[int] = Counter()
        self._cancelled: set[int] = set()
        self._streams: list[Stream] = []
        self._timers: list[threading.Timer] = []
        self._killed: set[int] = set()  # pids
        # Set before the executor is ended: from then on, which calls are refused or cancelled
        # depends on how it ends.
        self._ending = ""

    def blow(self, seconds: float) -> None:
        """Act at random for so long, then end in some way, and check everything."""
        try:
            while time.monotonic() < self._began + seconds:
                (act,) = self._rng.choices(list(_ACTIONS), list(_ACTIONS.values()))
                act(self)
            self._end()
            self._settle()
        except BaseException as error:
            error.add_note(self._story())
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()  # or they would load the machine through all later tests
            raise
        finally:
            for timer in self._timers:
                timer.cancel()
                timer.function(*timer.args)  # nobody stays stopped
                timer.join()

    # -- actions ----------------------------------------------------------------------------------

    def _submit(self) -> None:
        burst = self._rng.choice([1, 1, 5, 40])
        self._say(f"submit {burst} from {self._calls}")
        for _ in range(burst):
            call = self._next_calls(1)[0]
            plan = calls.plan(self._rng, call, self._rng.choice(self._lanes))
            view = self._some_view().options(**plan.options)
            future = view.submit(plan.fn, call, *plan.args)
            self._futures[call] = plan, future
            future.add_done_callback(lambda _, call=call: self._delivered.update([call]))

    def _stream(self) -> None:
        kind = self._rng.choice(["map", "lazy map", "unordered", "outcomes", "stream", "stream"])
        lane = self._rng.choice(self._lanes)
        numbers = self._next_calls(self._rng.choice([1, 50, 1000]))
        stop_after = self._rng.choice([None, None, None, self._rng.randint(0, 50)])
        self._say(
            f"{kind} over {len(numbers)} from {numbers[0]}, {lane}, closed after {stop_after}"
        )
        self._streams.append(Stream(kind, self._some_view(), lane, numbers, stop_after))

    def _cancel(self) -> None:
        pending = [call for call, (_, future) in self._futures.items() if not future.done()]
        chosen = self._rng.sample(pending, min(len(pending), self._rng.randint(1, 10)))
        self._say(f"cancel {chosen}")
        for call in chosen:
            if self._futures[call][1].cancel():
                self._cancelled.add(call)

    def _kill(self) -> None:
        if pid := self._some_worker():
            self._say(f"kill {pid}")
            self._killed.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _stop(self) -> None:
        if pid := self._some_worker():
            seconds = self._rng.uniform(0.02, 0.8)
            self._say(f"stop {pid} for {seconds:.2f} s")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                timer = threading.Timer(seconds, _go_on, (pid,))
                self._timers.append(timer)
                timer.start()

    def _pause(self) -> None:
        time.sleep(self._rng.choice([0.001, 0.01, 0.1]))

    def _end(self) -> None:
        executor, self._executor = self._executor, None
        self._views.clear()
        assert executor is not None
        ending = self._rng.choice(["wait", "forget", "shutdown", "cancel", "terminate", "kill"])
        self._say(f"end: {ending}")
        if ending == "wait":
            wait([future for _, future in self._futures.values()], BOUND)
            for stream in self._streams:
                stream.join()
        self._ending = ending
        match ending:
            case "forget":
                del executor
                gc.collect()
                return
            case "cancel":
                executor.shutdown(wait=False, cancel_futures=True)
            case "terminate":
                executor.terminate_workers()
            case "kill":
                executor.kill_workers()
        closer = threading.Thread(target=executor.shutdown, daemon=True)
        closer.start()
        closer.join(BOUND)
        assert not closer.is_alive(), f"shutdown() took more than {BOUND} s"

    def _next_calls(self, count: int) -> range:
        self._calls += count
        return range(self._calls - count, self._calls)

    def _some_view(self) -> Any:
        (view,) = self._rng.choices(self._views, [8, 1, 1])
        return view

    def _some_worker(self) -> int | None:
        assert self._executor is not None
        # One that is still starting is left alone: three that come to nothing break the executor.
        ready = [w.pid for w in self._executor.stats().workers if w.state != "starting"]
        ready = [pid for pid in ready if pid]
        return self._rng.choice(ready) if ready else None

    # -- what must hold ---------------------------------------------------------------------------

    def _settle(self) -> None:
        unfinished = wait([future for _, future in self._futures.values()], BOUND).not_done
        assert not unfinished, f"{len(unfinished)} futures have not ended: {unfinished}"
        for stream in self._streams:
            stream.join()
        # A future's waiters are woken before its callbacks are called.
        deadline = time.monotonic() + BOUND
        while len(self._delivered) < len(self._futures) and time.monotonic() < deadline:
            time.sleep(0.01)
        runs = calls.runs_noted(self._folder)
        if self._mode == "fail":
            allowed = {call: plan.runs for call, (plan, _) in self._futures.items()}
            twice = {call: pids for call, pids in runs.items() if len(pids) > allowed.get(call, 1)}
            assert not twice, f"calls that ran more than once, and where: {twice}"
        fatal = {call for call, (plan, _) in self._futures.items() if plan.fatal}
        dead = self._killed | {pid for call in fatal for pid in runs.get(call, [])}
        for call, (plan, future) in self._futures.items():
            assert self._delivered[call] == 1, f"call {call}: {self._delivered[call]} deliveries"
            self._check(call, plan, future, runs.get(call, []), dead)
        for stream in self._streams:
            # A call that has delivered items is not run again.
            again = self._mode == "retry" and stream.kind != "stream"
            explains = functools.partial(self._explains, dead=dead, again=again)
            stream.check(explains, bool(self._ending))

    def _check(
        self, call: int, plan: Plan, future: Future[Any], runs: list[int], dead: set[int]
    ) -> None:
        told = f"call {call} ({plan.fn}, {plan.options}, ran in {runs}): {future}"
        if future.cancelled():
            assert call in self._cancelled or self._cancels_all, f"not cancelled by us: {told}"
            return
        assert call not in self._cancelled, f"cancel() was true: {told}"
        error = future.exception()
        if isinstance(error, WorkerLost):
            explained = plan.fatal or self._explains(error, dead, self._mode == "retry")
            assert explained, f"lost, and nothing to explain it: {told} {error}"
            assert not runs or error.pid == runs[-1], f"lost elsewhere: {told} {error}"
            return
        if self._cancels_all and plan.runs > len(runs) and type(error) in RETRIED:
            return  # it is not tried again any more
        value = None if error else future.result()
        assert plan.is_right(value, error), f"wrong: {told} {error!r}"
        assert error or runs, f"a result, and no run: {told}"

    @property
    def _cancels_all(self) -> bool:
        return self._ending in ("cancel", "terminate", "kill")

    def _explains(self, error: BaseException, dead: set[int], again: bool) -> bool:
        """Whether an accident of ours is behind this error."""
        if isinstance(error, WorkerLost):
            # What runs again is ended by a loss only if it is behind it, or because all is
            # cancelled.
            ends = not again or self._ending == "cancel"
            return (ends and error.pid in dead) or self._ending in ("terminate", "kill")
        return self._cancels_all and isinstance(error, CancelledError)

    # -- for the reader of a failure --------------------------------------------------------------

    def _say(self, action: str) -> None:
        self._log.append(f"{time.monotonic() - self._began:7.3f} {action}")

    def _story(self) -> str:
        lines = [self._title, f"{self._arguments}", *self._log[-SHOWN:]]
        if self._executor is not None:
            lines.append(str(self._executor.stats()))
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            lines += ["-- this process", file.read()]
        armed = {int(path.name.removeprefix("stacks-")) for path in self._folder.glob("stacks-*")}
        for child in psutil.Process().children(recursive=True):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
                if child.pid in armed:
                    os.kill(child.pid, calls.DUMP_SIGNAL)
        time.sleep(0.5)
        for path in self._folder.glob("stacks-*"):
            if text := path.read_text():
                lines += [f"-- worker {path.name.removeprefix('stacks-')}", text]
        return "\n".join(lines)


def _key_of(call: int, *_: object) -> int:
    return call % 5


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


_ACTIONS: dict[Callable[[Storm], None], float] = {
    Storm._submit: 10,
    Storm._stream: 2,
    Storm._cancel: 4,
    Storm._kill: 1,
    Storm._stop: 1,
    Storm._pause: 10,
}
