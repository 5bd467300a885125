"""Memory files: what travels how, also where it cannot be shared."""

from __future__ import annotations

import errno
import os
import resource
from typing import Any

import numpy as np
import pytest

from hybridexec.wire import parts, shared
from hybridexec.wire.frames import embed, encode, extract
from hybridexec.wire.parts import SHARED_FROM
from hybridexec.wire.payload import Segments, dumps, loads
from hybridexec.wire.shared import Region, has_room

from .memory_files import SIZE, Sides, arrays, file_of, files, mapped

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd"),
    pytest.mark.usefixtures("nothing_left"),
]


# -- what travels how -----------------------------------------------------------------------------


def test_small_parts_are_copied_and_large_ones_share_a_file() -> None:
    payload = dumps(arrays(SIZE - 1, SIZE, 10, 2 * SIZE + 1))
    assert type(payload) is Segments
    assert [isinstance(part, Region) for part in payload.parts] == [False, False, True, False, True]
    assert len(files()) == 1
    assert [len(array) for array in loads(payload)] == [SIZE - 1, SIZE, 10, 2 * SIZE + 1]


@pytest.mark.parametrize(
    "value", [bytes(range(256)) * 4096, "é" * SIZE, list(range(SIZE)), bytearray(SIZE)], ids=type
)
def test_a_large_pickle_is_shared_too(sides: Sides, value: Any) -> None:
    payload = dumps(value)
    assert len(files()) == (type(value) is not bytes)
    assert sides.write(payload) < 1000
    (received,) = sides.read()
    assert loads(received) == value
    assert type(loads(received)) is type(value)


def test_bytes_are_copied_when_they_are_written_several_into_one_file(sides: Sides) -> None:
    values = [bytes([n]) * (SIZE + n) for n in range(5)]
    payloads = [dumps(value) for value in values]
    for payload, value in zip(payloads, values, strict=True):
        assert type(payload) is Segments
        assert payload.parts[1] is value
    assert files() == []
    assert sides.write(*payloads) < 1000
    assert 1 <= len({number for _, number in files()}) < len(values)
    assert [loads(received) for received in sides.read()] == values


def test_many_small_parts_of_a_frame_share_a_file_few_go_through_the_pipe(sides: Sides) -> None:
    values = [bytes([n]) * 50_000 for n in range(1, 8)]
    payloads = [dumps(value) for value in values] + [dumps(bytearray(50_000)), dumps(b"small")]
    assert sides.write(payloads[0]) > 50_000
    assert files() == []
    sides.read()
    assert sides.write(*payloads) < 1000
    assert len(files()) == 1
    assert [loads(received) for received in sides.read()] == [*values, bytearray(50_000), b"small"]


def test_bytes_among_arrays_keep_their_order(sides: Sides) -> None:
    """A frame has the parts of each file together."""
    values = [
        b"a" * SIZE,
        *arrays(SIZE),
        b"b" * SIZE,
        *arrays(SIZE + 1),
        b"c" * SIZE,
        b"d" * 40_000,
    ]
    payloads = [dumps(value) for value in values]
    for _ in range(2):
        received = [loads(payload) for payload in sides.send(*payloads)]
        for back, value in zip(received, values, strict=True):
            assert type(back) is type(value)
            assert np.array_equal(back, value)


def test_what_would_take_long_to_write_is_in_a_file_at_once(sides: Sides) -> None:
    value = bytes(parts._AT_ONCE)
    payload = dumps(value)
    assert len(files()) == 1
    (received,) = sides.send(payload)
    assert loads(received) == value


@pytest.mark.usefixtures("map_all")
def test_bytes_are_never_mapped(sides: Sides) -> None:
    value = bytes(range(256)) * (SIZE // 128)
    (received,) = sides.send(dumps(((value, 1), {})))
    (back, one), _ = loads(received)
    assert not mapped()
    assert type(back) is bytes
    assert (back, one) == (value, 1)


@pytest.mark.parametrize("function", ["memfd_create", "pwritev"])
def test_bytes_without_a_file_go_through_the_pipe(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    shared._spares.clear()
    monkeypatch.setattr(os, function, refuse)
    value = bytes(60_000) * 5
    segments: list[shared.Part] = []
    embed(dumps(value), segments)
    buffers = encode((1,), segments, sides.ours.hand_over)
    assert buffers[1] is value


@pytest.mark.usefixtures("map_all")
def test_huge_parts_are_mapped_and_arrive_as_they_were(sides: Sides) -> None:
    test_parts_arrive_as_they_were(sides)
    assert not mapped()


def test_parts_arrive_as_they_were(sides: Sides) -> None:
    sent = arrays(SIZE, 3, SIZE + 1, 5 * SIZE - 1, 999)
    more = arrays(SIZE + 7, SIZE)
    first, small, second = sides.send(dumps(sent), b"small", dumps(more))
    assert small == b"small"
    for payload, expected in ((first, sent), (second, more)):
        received = loads(payload)
        assert all(np.array_equal(a, b) for a, b in zip(received, expected, strict=True))
        for array in received:
            array[0] ^= 255  # it is writable
    sent[0].flags.writeable = False
    (payload,) = sides.send(dumps(sent[0]))
    assert not loads(payload).flags.writeable, "what was read-only still is"


@pytest.mark.parametrize("mapped_from", [SHARED_FROM, shared.MAPPED_FROM])
def test_nobody_sees_what_another_changes(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    """A call may change its argument and be tried again, with the same payload."""
    monkeypatch.setattr(shared, "MAPPED_FROM", mapped_from)
    array = np.zeros(SIZE)
    payload = dumps(array)
    array[:] = 1
    for _ in range(2):
        (received,) = sides.send(payload)
        back = loads(received)
        assert not back.any()
        back[:] = 2
    assert not loads(payload).any()


def test_what_is_handed_over_outlives_the_payload(sides: Sides) -> None:
    sides.write(dumps(np.full(SIZE, 7)))
    shared._spares.clear()
    assert files() == []
    assert (loads(sides.read()[0]) == 7).all()


def test_what_nobody_takes_goes_with_the_channel() -> None:
    """What a killed worker had been sent, and what it had sent."""
    sides = Sides()
    sides.write(dumps(np.zeros(SIZE)))
    sides.close()


# -- when it cannot be shared ---------------------------------------------------------------------


def refuse(*arguments: object) -> Any:
    raise OSError(errno.ENOSPC, "no room")


@pytest.mark.parametrize("function", ["memfd_create", "fchmod", "pwritev"])
def test_without_a_file_it_travels_through_the_pipe(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr(os, function, refuse)
    (array,) = arrays(2 * SIZE)
    payload = dumps(("name", array))
    assert type(payload) is Segments
    assert not any(isinstance(part, Region) for part in payload.parts)
    assert np.array_equal(loads(payload)[1], array)


def test_where_there_is_no_memfd_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert not any(isinstance(part, Region) for part in dumps(np.zeros(SIZE)).parts)


def test_a_process_holds_a_bounded_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST", len(shared._holders) + 3)
    payloads = [dumps(np.full(SIZE, n)) for n in range(10)]
    assert len(files()) == 3
    assert [loads(payload)[0] for payload in payloads] == list(range(10))


def test_most_of_the_descriptors_are_left_to_others() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [dumps(np.zeros(SIZE)) for _ in range(5)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * len(shared._holders), limits[1]))
        assert not has_room()
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * len(shared._holders) + 4, limits[1]))
        assert has_room()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(held) == 5


def test_what_cannot_be_handed_over_is_written_to_the_pipe(sides: Sides) -> None:
    """A worker that does not read: the kernel keeps only so many descriptors on their way."""
    first, last = np.full(SIZE // 8, 1), np.full(SIZE // 8, 2)
    filler = dumps(np.zeros(SIZE))
    payloads = [dumps(first)]
    while sides.ours.hand_over(file_of(filler)):
        payloads.append(filler)
        assert len(payloads) < 100_000
    segments: list[shared.Part] = []
    references = [embed(dumps(last), segments)]
    buffers = encode((1, references), segments, sides.ours.hand_over)
    assert sum(memoryview(buffer).nbytes for buffer in buffers) > SIZE
    sides.ours.close()
    assert not sides.ours.hand_over(file_of(filler)), "nor when nobody is there"


def test_shared_and_written_parts_mix_in_one_frame(sides: Sides) -> None:
    payloads = [dumps(arrays(SIZE + n, n, SIZE + 2 * n)) for n in range(6)]
    refused = {id(file_of(payload)) for payload in payloads[::2]}
    hand_over = sides.ours.hand_over
    segments: list[shared.Part] = []
    head = (1, [embed(payload, segments) for payload in payloads])
    buffers = encode(head, segments, lambda file: id(file) not in refused and hand_over(file))
    received: list[Any] = []
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        for start in range(0, len(view), 50_000):
            os.write(sides.write_fd, view[start : start + 50_000])
            received += sides.reader.read() or []
    (frame,) = received
    for n, reference in enumerate(frame[0][1]):
        back = loads(extract(reference, frame[1]))
        expected = arrays(SIZE + n, n, SIZE + 2 * n)
        assert all(np.array_equal(a, b) for a, b in zip(back, expected, strict=True))


# -- descriptors run out --------------------------------------------------------------------------


class NoDescriptors:
    """While in use, this process cannot open another descriptor."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, self._limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


def test_a_reserve_lets_files_in_where_no_descriptor_is_left(sides: Sides) -> None:
    sides.send(dumps(np.zeros(SIZE)))  # the reserve is made with the first
    sent = [arrays(SIZE + n, SIZE) for n in range(3)]
    sides.write(*[dumps(value) for value in sent])
    with NoDescriptors():
        received = sides.read()
    for payload, expected in zip(received, sent, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(loads(payload), expected, strict=True))


def test_a_lost_file_fails_its_own_payload_only(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_reserve", [])
    sides.write(dumps(np.zeros(SIZE)))
    with NoDescriptors():
        (lost,) = sides.read()
    with pytest.raises(OSError, match="no descriptor was left"):
        loads(lost)
    (next_one,) = sides.send(dumps(np.full(SIZE, 3)))
    assert (loads(next_one) == 3).all()


@pytest.mark.usefixtures("map_all")
def test_what_cannot_be_mapped_is_copied(sides: Sides) -> None:
    (array,) = arrays(3 * SIZE)
    (received,) = sides.send(dumps(array))
    with NoDescriptors():
        back = loads(received)
    assert not mapped()
    assert np.array_equal(back, array)
