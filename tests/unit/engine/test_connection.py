"""A worker's pipes: what is written, what is read, and the end."""

from __future__ import annotations

import os
import sys

import pytest

from hybridexec import native
from hybridexec.parent.launch.exit_errors import describe_exit
from hybridexec.wire import messages

from .connections import Ends, result_frame

# -- writing ----------------------------------------------------------------------------------


def pieces(size: int) -> list[bytearray]:
    """So many bytes in parts that are too small to go into a file."""
    return [bytearray(os.urandom(10_000)) for _ in range(size // 10_000)]


def test_a_frame_that_fits_is_written_at_once(ends: Ends) -> None:
    ends.connection.write(messages.Forget(5), [b"segment"])
    assert ends.connection.flush()
    (frame,) = ends.worker.read() or []
    assert frame[0] == messages.Forget(5).head
    assert frame[1] == (b"segment",)


def test_nothing_is_written_before_flush(ends: Ends) -> None:
    os.set_blocking(ends.calls_read, False)
    ends.connection.write(messages.Stop())
    with pytest.raises(BlockingIOError):
        ends.worker.read()


def test_a_flush_with_nothing_to_write_is_done(ends: Ends) -> None:
    assert ends.connection.flush()


def test_what_does_not_fit_waits_for_a_slow_reader_and_arrives_whole(ends: Ends) -> None:
    large = pieces(3_000_000)
    ends.connection.write(messages.Calls((), ()), [*large, b"", b"tail"])
    ends.connection.write(messages.Stop())
    assert not ends.connection.flush(), "a pipe does not hold that much, and nobody has waited"
    received = []
    flushed = False
    while len(received) < 2:
        received += ends.worker.read() or []
        flushed = ends.connection.flush(there_is_room=True)
    assert flushed
    assert [frame[0] for frame in received] == [
        messages.Calls((), ()).head,
        messages.Stop().head,
    ]
    assert received[0][1] == (*large, b"", b"tail")


def test_more_buffers_than_one_write_takes_arrive_in_order(ends: Ends) -> None:
    for number in range(3000):
        ends.connection.write(messages.Forget(number), [b"x"])
    received: list[int] = []
    while len(received) < 3000:
        ends.connection.flush(there_is_room=True)
        received += [frame[0][1] for frame in ends.worker.read() or []]
    assert received == list(range(3000))


def test_many_small_frames_for_a_reader_that_stands_still_then_reads(ends: Ends) -> None:
    count = 20_000
    for number in range(count):
        ends.connection.write(messages.Forget(number))
        if number % 1000 == 0:
            ends.connection.flush()
    assert not ends.connection.flush()
    received: list[int] = []
    while len(received) < count:
        received += [frame[0][1] for frame in ends.worker.read() or []]
        ends.connection.flush(there_is_room=True)
    assert received == list(range(count))


def test_a_pipe_that_an_urgent_frame_has_found_empty_may_fill_up_again(ends: Ends) -> None:
    for _ in range(2):
        ends.connection.write(messages.Calls((), ()), pieces(300_000))
        assert not ends.connection.flush()
        while not ends.poller.wait(0):
            assert not ends.worker.read()
        assert ends.poller.wait(0) == [(ends.connection.calls_fd, native.Poller.WRITABLE)]
        ends.connection.write(messages.Cancel([1], True))
        received: list[object] = []
        while not ends.connection.flush():
            received += ends.worker.read() or []
        assert not ends.poller.wait(0), "there is nothing to be written"
        while len(received) < 2:
            received += ends.worker.read() or []


def rings(ends: Ends) -> int:
    """How often the bell was rung since the last time."""
    try:
        return len(os.read(ends.bell_read, 4096))
    except BlockingIOError:
        return 0


def test_only_urgent_frames_ring_the_bell(ends: Ends) -> None:
    ends.connection.write(messages.Stop())
    ends.connection.flush()
    assert rings(ends) == 0
    ends.connection.write(messages.Recall(1))
    assert rings(ends) == 0, "not before it is written"
    ends.connection.flush()
    assert rings(ends) == 1
    ends.connection.flush()
    assert rings(ends) == 0


def test_the_bell_is_rung_again_when_an_urgent_frame_that_did_not_fit_is_there(ends: Ends) -> None:
    ends.connection.write(messages.Calls((), ()), pieces(1_000_000))
    ends.connection.write(messages.Recall(1))
    assert not ends.connection.flush()
    assert rings(ends) == 1, "so that what is in its way is read"
    received: list[object] = []
    while len(received) < 2:
        received += ends.worker.read() or []
        ends.connection.flush(there_is_room=True)
    assert rings(ends) >= 1
    assert ends.connection.flush()
    assert rings(ends) == 0


def test_a_bell_that_nobody_hears_keeps_nobody_waiting(ends: Ends) -> None:
    for number in range(70_000):
        ends.connection.write(messages.Recall(number))
        ends.connection.flush()
    assert rings(ends)


def test_a_reader_that_is_gone_is_noticed_and_no_error(ends: Ends) -> None:
    os.close(ends.calls_read)
    ends.connection.write(messages.Stop())
    assert ends.connection.flush(), "there is nothing left that could be written"
    assert ends.connection.broken


def test_a_reader_that_goes_with_much_unread_is_noticed_too(ends: Ends) -> None:
    ends.connection.write(messages.Calls((), ()), pieces(1_000_000))
    assert not ends.connection.flush()
    os.close(ends.calls_read)
    assert ends.connection.flush(there_is_room=True)
    assert ends.connection.broken


def test_a_broken_link_keeps_nothing(ends: Ends) -> None:
    os.close(ends.calls_read)
    ends.connection.write(messages.Stop())
    ends.connection.flush()
    before = sys.getrefcount(FILLER)
    ends.connection.write(messages.Calls((), ()), [FILLER])
    assert sys.getrefcount(FILLER) == before
    assert ends.connection.flush()


FILLER = bytearray(100)


# -- reading ----------------------------------------------------------------------------------


def test_what_has_arrived_is_read_and_no_more_is_waited_for(ends: Ends) -> None:
    os.write(ends.results_write, result_frame(1) + result_frame(2, b"s") + result_frame(3)[:5])
    assert [frame[0][1] for frame in ends.connection.read()] == [1, 2]
    assert ends.connection.read() == []
    os.write(ends.results_write, result_frame(3)[5:])
    assert [frame[0][1] for frame in ends.connection.read()] == [3]
    assert not ends.connection.broken


def test_the_workers_end_of_the_pipe_is_noticed(ends: Ends) -> None:
    os.write(ends.results_write, result_frame(1))
    os.close(ends.results_write)
    assert [frame[0][1] for frame in ends.connection.read()] == [1]
    ends.connection.read()
    assert ends.connection.broken


def test_all_that_a_dead_worker_left_can_be_read(ends: Ends) -> None:
    sent = 0
    os.set_blocking(ends.results_write, False)
    # Many segments need a read each: more reads than one turn allows.
    try:
        while sent < 40:
            assert os.write(ends.results_write, result_frame(sent, *[b"x" * 300] * 3))
            sent += 1
    except BlockingIOError:
        pass
    os.close(ends.results_write)
    assert [frame[0][1] for frame in ends.connection.read(everything=True)] == list(range(sent))
    assert ends.connection.broken


def test_one_worker_with_very_much_to_say_is_interrupted(ends: Ends) -> None:
    received = []
    chunk = bytes(50_000)
    os.write(ends.results_write, result_frame(1, *[chunk] * 20)[:60_000])
    data = result_frame(1, *[chunk] * 20)[60_000:]
    turns = 0
    while not received:
        turns += 1
        received += ends.connection.read()
        written, data = data[:60_000], data[60_000:]
        if written:
            os.write(ends.results_write, written)
    assert turns > 1
    assert [bytes(segment) for segment in received[0][1]] == [chunk] * 20


# -- ends -------------------------------------------------------------------------------------


def test_closing_lets_go_of_everything(ends: Ends) -> None:
    ends.connection.process.exitcode = 0
    ends.connection.close()
    for fd in (ends.connection.calls_fd, ends.connection.results_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    with pytest.raises(ValueError, match="released"):
        _ = ends.connection.page.taken
    assert ends.connection.process.forgotten


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-200, "killed by signal 200"),
        (None, "how is unknown"),
    ],
)
def test_exit_statuses_in_words(code: int | None, words: str) -> None:
    assert describe_exit(code) == words
