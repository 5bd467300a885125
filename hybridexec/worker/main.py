"""A worker's life: get ready, run calls until told to stop.

Thread: main.
Guarantees: exactly one Hello or Failed is the first message that the parent gets; all results are
written before the process ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import process
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .. import native, shared_state
from ..wire import messages, payload
from ..wire.contract import PickledSetup, Setup, WorkerStart
from ..wire.page import StatusPage
from ..wire.shared import Channel
from . import boot, faults, kinds, lifeline, stacks
from .functions import Functions
from .helper import Helper
from .inbound import Inbound
from .inbox import Inbox
from .late_logs import LateLogs
from .outbox import Outbox

if TYPE_CHECKING:
    from .state import State

_NO_LOOP = (
    "the initializer is an async function, which this worker has no event loop for: it is one of "
    "the {lane} lane. Use a plain function, or one executor for async functions and one for others"
)
#: Descriptors beyond one for each call: the worker's own, and those of imported modules.
_SPARE_DESCRIPTORS = 256


def run(start: WorkerStart) -> None:
    """Be the worker that ``start`` describes; returns when the parent has no more calls."""
    results_fd = start.results.fd
    try:
        # A forked process has not booted; in the others these two change nothing.
        lifeline.hold(start.lifeline.fd)
        # The parent has closed the pipe that told this.
        parent: Any = process.parent_process()
        os.dup2(start.lifeline.fd, parent.sentinel, inheritable=False)
        boot.reset_signals()
        kind = kinds.of(start.boot.lane)
        kind.prepare(start.boot)
        if start.boot.settings is not None:
            from . import settings  # few need it

            settings.apply(start.boot.settings.of_place(start.place))
        _raise_descriptor_limit(start.open_files, start.concurrency)
        native.keep_freed_memory()
        payload.set_main_by_value(start.boot.main_by_value)
        with_ring = start.log_tree is not None
        page = StatusPage(start.status.fd, start.concurrency, with_ring=with_ring)
        stacks.record_faults(start.status.fd)
        functions = Functions(kind.new_lock())
        loop = kind.loop(_called(start.setups.loop_factory, functions))
    except Exception as error:
        boot.send_failure(results_fd, "start", error)
        return
    channel = Channel(start.channel.fd)
    helper = Helper(start.bell.fd)
    outbox = Outbox(results_fd, channel, helper.call, loop)
    inbox = Inbox()
    lane = kind.make(page, inbox, functions, outbox, helper.call)
    logs = LateLogs()
    inbound = Inbound(start.calls.fd, channel, page, inbox, functions, outbox, lane, logs)
    if start.log_tree is not None and page.ring is not None:
        logs.begin(start.log_tree, page.ring, outbox, helper.call, lane.calling)
    help_out = partial(helper.run, lane, inbound, outbox)
    native.start_thread(partial(faults.guard, help_out), "hybridexec-helper", deaf=True)
    shared_state.lack()  # a forked worker's parent may have one
    state: State | None = None
    if start.setups.worker_state is not None:
        from . import state as states  # few need it

        state = states.State(start.boot.lane == "async")
    set_up = partial(_initialize, start, functions, state)
    if lane.set_up(set_up, partial(_tell, outbox, state)):
        sys.excepthook = sys.__excepthook__  # from here on, a failure is not one to get ready
        outbox.put(messages.Hello())
        lane.serve(start.calls.fd, inbound.on_readable)
        if state is not None:
            outbox.write()
            state.close()
    outbox.write()


def _initialize(start: WorkerStart, functions: Functions, state: State | None) -> object:
    """Call the initializer, and make the worker's state; what is returned may be awaited."""
    initializer = _called(start.setups.setup, functions)
    value = None if initializer is None else initializer()
    if isinstance(value, CoroutineType) and start.boot.lane != "async":
        value.close()
        raise TypeError(_NO_LOOP.format(lane=start.boot.lane))
    if state is None or start.setups.worker_state is None:
        return value
    factory = _called(start.setups.worker_state, functions)
    assert factory is not None
    return state.open(factory, value)


def _called(setup: Setup | PickledSetup, functions: Functions) -> Callable[[], object] | None:
    """What ``setup`` has called, with its arguments; None if that is nothing."""
    if isinstance(setup, PickledSetup):
        function, arguments = functions.unpickle(setup)
    else:
        function, arguments = setup.initializer, setup.initargs
        functions.have(setup.needs)
    return None if function is None else partial(function, *arguments)


def _tell(outbox: Outbox, state: State | None, error: BaseException) -> None:
    """The initializer has failed, or what makes the worker's state."""
    import logging

    # The standard library's logger and text: programs filter on them.
    text, stage = "Exception in initializer:", "initializer"
    if state is not None and state.begun:
        text, stage = "Exception in worker_state:", "worker_state"
    logging.getLogger("concurrent.futures").critical(text, exc_info=error)
    outbox.add(boot.failure(stage, error))


def _raise_descriptor_limit(parents: int, concurrency: int) -> None:
    """Allow what the calls may open, and what the parent may now: the fork server is older."""
    wanted = concurrency + _SPARE_DESCRIPTORS
    if parents == -1 or parents > wanted:  # -1: there is no limit
        wanted = parents
    soft = os.sysconf("SC_OPEN_MAX")
    if soft == -1 or (wanted != -1 and soft >= wanted):
        return
    import resource  # few need it

    limit = resource.RLIM_INFINITY if wanted == -1 else wanted
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and (wanted == -1 or hard < wanted):
        # Only root may; others were warned.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return
        limit = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
