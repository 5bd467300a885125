"""A worker's life: get ready, run calls until told to stop.

Runs on: the main thread of the worker process.
Guarantees: exactly one HELLO or FAILED frame is the first frame the parent gets; results that were
produced are written before the process ends.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import resource
import sys

from .. import native
from ..wire import frames, payload
from ..wire.contract import WorkerStart
from ..wire.page import StatusPage
from ..wire.shared import Channel
from . import boot, children, cooperative, lifeline, stacks, timeouts
from .pipes import Inbound, Outbound
from .runners import Runners

#: Descriptors beyond one for each call: the worker's own, and those of imported modules.
_SPARE_DESCRIPTORS = 256


def run(start: WorkerStart) -> None:
    """Be the worker that ``start`` describes; returns when the parent has no more calls."""
    import gevent

    results_fd = start.results.fd
    try:
        # A forked process has not booted; in the others these change nothing.
        lifeline.hold(start.lifeline.fd)
        boot.ignore_interrupts()
        boot.patch(start.boot.monkey_patch)
        boot.import_all(start.boot.preload)
        cooperative.install()
        children.install()
        timeouts.install()
        _raise_descriptor_limit(start.concurrency)
        payload.set_main_by_value(start.boot.main_by_value)
        page = StatusPage(start.status.fd, start.concurrency)
        stacks.record_faults(start.status.fd)
    except Exception as error:
        boot.send_failure(results_fd, "start", error)
        return
    channel = Channel(start.channel.fd)
    outbound = Outbound(results_fd, channel)
    runners = Runners(start.concurrency, page, outbound.put, outbound.put_first)
    native.start_thread(outbound.run, "hybridexec-outbound")
    inbound = Inbound(start.calls.fd, channel, runners, outbound.put)
    native.start_thread(inbound.run, "hybridexec-inbound")
    # In a greenlet of its own, as calls are: what it stores per thread stays apart from the
    # hub's, and its context is the one each call starts from.
    context = contextvars.copy_context()
    setup = gevent.spawn(context.run, _initialize, start, results_fd)
    setup.join()
    if setup.value is True:
        sys.excepthook = sys.__excepthook__  # from here on, a failure is not one to get ready
        outbound.put((frames.HELLO,))
        runners.serve(context, start.calls.fd, inbound.on_readable)
    outbound.finish()


def _initialize(start: WorkerStart, results_fd: int) -> bool:
    if start.initializer is None:
        return True
    try:
        start.initializer(*start.initargs)
    except BaseException as error:
        # The standard library's logger and text: programs filter on them.
        logging.getLogger("concurrent.futures").critical(
            "Exception in initializer:", exc_info=error
        )
        boot.send_failure(results_fd, "initializer", error)
        return False
    return True


def _raise_descriptor_limit(concurrency: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = concurrency + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        # Only root may; the executor has refused what others cannot have.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        wanted = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
