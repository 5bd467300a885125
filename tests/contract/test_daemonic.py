"""A daemonic process, which multiprocessing allows no children, may have an executor all the same:
Dask's nannies and multiprocessing's pools start such ones."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import psutil

from hybridexec import HybridExecutor

from .helpers import Gate, pid_of, wait_until


def is_daemon() -> bool:
    return multiprocessing.current_process().daemon


def use(told: Connection) -> None:
    with HybridExecutor(1) as executor:
        told.send((is_daemon(), executor.submit(is_daemon).result(timeout=30)))


def use_until_killed(told: Connection, gate: Gate) -> None:
    executor = HybridExecutor(1)
    told.send(executor.submit(pid_of, 0).result(timeout=30))
    executor.submit(gate.wait, "there").result()


def test_its_workers_are_no_daemons() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=use, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(60)
    assert ours.recv() == (True, False)
    process.join(30)
    assert process.exitcode == 0


def test_its_workers_end_with_it(gate: Gate) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=use_until_killed, args=(theirs, gate), daemon=True)
    process.start()
    assert ours.poll(60)
    worker = ours.recv()
    gate.wait_for(1)
    process.kill()
    wait_until(lambda: not psutil.pid_exists(worker))
    process.join(30)
