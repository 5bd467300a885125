"""Frames: what goes in comes out, however the pipe cuts it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.wire.frames import Buffer, Frame, FrameReader, embed, encode, extract
from hybridexec.wire.payload import INLINE_LIMIT, Segments

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner).map(tuple) | st.lists(inner),
    max_leaves=8,
)
heads = st.tuples(st.integers(1, 6), plain)
segment_lists = st.lists(st.binary(max_size=300), max_size=4)


class Pipe:
    """A pipe with a reader at its end."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.reader = FrameReader(self.read_fd)

    def write(self, data: bytes) -> None:
        assert os.write(self.write_fd, data) == len(data)

    def read_all(self) -> list[Frame]:
        """The frames completed by what is in the pipe."""
        received: list[Frame] = []
        try:
            while (some := self.reader.read()) is not None:
                received += some
        except BlockingIOError:
            pass
        return received

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def to_bytes(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


@settings(max_examples=100)
@given(head=heads, segments=segment_lists)
def test_a_frame_comes_back_as_it_went(head: tuple[object, ...], segments: list[bytes]) -> None:
    pipe = Pipe()
    try:
        pipe.write(to_bytes(encode(head, segments)))
        (frame,) = pipe.read_all()
    finally:
        pipe.close()
    assert frame[0] == head
    assert list(frame[1]) == segments


@settings(max_examples=15)
@given(frame_list=st.lists(st.tuples(heads, segment_lists), min_size=1, max_size=3))
def test_a_cut_at_any_byte_changes_nothing(
    frame_list: list[tuple[tuple[object, ...], list[bytes]]],
) -> None:
    data = b"".join(to_bytes(encode(head, segments)) for head, segments in frame_list)
    for cut in range(1, len(data)):
        pipe = Pipe()
        try:
            pipe.write(data[:cut])
            received = pipe.read_all()
            pipe.write(data[cut:])
            received += pipe.read_all()
        finally:
            pipe.close()
        assert [(f[0], list(f[1])) for f in received] == frame_list


@settings(max_examples=30)
@given(head=heads, segments=segment_lists)
def test_a_frame_may_arrive_byte_by_byte(head: tuple[object, ...], segments: list[bytes]) -> None:
    pipe = Pipe()
    received: list[Frame] = []
    data = to_bytes(encode(head, segments))
    try:
        for position in range(len(data)):
            assert not received, "not before its last byte"
            pipe.write(data[position : position + 1])
            received += pipe.read_all()
    finally:
        pipe.close()
    assert [(f[0], list(f[1])) for f in received] == [(head, segments)]


def test_one_read_may_complete_many_frames(pipe: Pipe) -> None:
    pipe.write(b"".join(to_bytes(encode((4, n), [b"s"] * (n % 3))) for n in range(50)))
    received = pipe.reader.read()
    assert received is not None
    assert [frame[0][1] for frame in received] == list(range(50))


def test_a_frame_larger_than_the_pipe_arrives_piece_by_piece(pipe: Pipe) -> None:
    large = os.urandom(1_000_000)
    data = to_bytes(encode((3, "x"), [b"", large, b"", b"end"]))
    received: list[Frame] = []
    for position in range(0, len(data), 50_000):
        pipe.write(data[position : position + 50_000])
        received += pipe.read_all()
    (frame,) = received
    assert list(frame[1]) == [b"", large, b"", b"end"]


def test_segments_are_writable_so_that_arrays_built_on_them_are(pipe: Pipe) -> None:
    pipe.write(to_bytes(encode((1,), [bytearray(b"data"), memoryview(b"more")])))
    (frame,) = pipe.read_all()
    for segment in frame[1]:
        assert isinstance(segment, bytearray)
        segment[0] = 0
    assert list(frame[1]) == [b"\0ata", b"\0ore"]


sized = st.sampled_from([0, 1, 40_000, 100_000, 262_144, 262_145, 600_000])


@settings(max_examples=50)
@given(
    sizes=st.lists(st.tuples(sized, st.booleans()), max_size=5),
    steps=st.lists(st.sampled_from([1, 7, 1000, 65_536, 262_144]), min_size=1, max_size=5),
)
def test_bytes_arrive_as_bytes_and_all_else_may_be_changed(
    sizes: list[tuple[int, bool]], steps: list[int]
) -> None:
    """However the frame is cut by the reads."""
    segments: list[Buffer] = [
        bytes([n + 1]) * size if exact else bytearray([n + 1]) * size
        for n, (size, exact) in enumerate(sizes)
    ]
    data = to_bytes(encode((1,), segments)) + to_bytes(encode((2,), [b"next"]))
    received: list[Frame] = []
    pipe = Pipe()
    try:
        position, step = 0, 0
        while position < len(data):
            size = min(steps[step % len(steps)] * (1 + position // 100), 50_000)
            pipe.write(data[position : position + size])
            received += pipe.read_all()
            position, step = position + size, step + 1
    finally:
        pipe.close()
    first, second = received
    assert list(first[1]) == segments
    assert [type(segment) for segment in first[1]] == [type(segment) for segment in segments]
    assert second == ((2,), (b"next",))


def test_the_end_of_the_pipe_is_none(pipe: Pipe) -> None:
    os.close(pipe.write_fd)
    assert pipe.reader.read() is None


def test_frames_before_the_end_are_not_lost(pipe: Pipe) -> None:
    pipe.write(to_bytes(encode((4,))))
    os.close(pipe.write_fd)
    assert pipe.reader.read() == [((4,), ())]
    assert pipe.reader.read() is None


@pytest.mark.parametrize("cut", [3, 30, -2])
def test_an_unfinished_frame_at_the_end_is_dropped(pipe: Pipe, cut: int) -> None:
    pipe.write(to_bytes(encode((3, "some results"), [b"segment"]))[:cut])
    os.close(pipe.write_fd)
    assert pipe.read_all() == []
    assert pipe.reader.read() is None


def test_an_empty_pipe_that_does_not_block_says_so(pipe: Pipe) -> None:
    with pytest.raises(BlockingIOError):
        pipe.reader.read()


def test_an_empty_pipe_says_so_in_the_middle_of_a_segment_too(pipe: Pipe) -> None:
    data = to_bytes(encode((1,), [b"0123456789"]))
    pipe.write(data[:-5])
    assert pipe.reader.read() == []
    with pytest.raises(BlockingIOError):
        pipe.reader.read()
    pipe.write(data[-5:])
    assert [bytes(s) for f in pipe.read_all() for s in f[1]] == [b"0123456789"]


def test_encode_copies_no_segment() -> None:
    segment = bytearray(1000)
    assert any(buffer is segment for buffer in encode((1,), [segment]))


def test_encode_measures_a_segment_in_bytes_not_in_items(pipe: Pipe) -> None:
    pipe.write(to_bytes(encode((1,), [memoryview(b"12345678").cast("I"), b"next"])))
    (frame,) = pipe.read_all()
    assert list(frame[1]) == [b"12345678", b"next"]


@settings(max_examples=100)
@given(head=heads, segments=segment_lists, step=st.integers(1, 400))
def test_frames_that_come_by_another_way_than_a_descriptor(
    head: tuple[object, ...], segments: list[bytes], step: int
) -> None:
    data = to_bytes(encode(head, segments)) * 2
    reader = FrameReader(-1)
    received: list[Frame] = []
    for begin in range(0, len(data), step):
        received += reader.feed(data[begin : begin + step])
    assert received == [(head, tuple(segments))] * 2
    assert reader.received == len(data)


def test_a_small_payload_is_embedded_in_the_head() -> None:
    segments: list[Buffer] = []
    assert embed(b"pickle", segments) == b"pickle"
    assert segments == []


def test_large_payloads_are_named_by_their_segments(pipe: Pipe) -> None:
    segments: list[Buffer] = []
    large = bytes(INLINE_LIMIT + 1)
    payloads = [
        Segments((b"a", b"b")),
        b"small",
        Segments((large,)),
        Segments((b"c",)),
        Segments((b"d", b"", b"e")),
    ]
    references = [embed(payload, segments) for payload in payloads]
    pipe.write(to_bytes(encode((1, references), segments)))
    (frame,) = pipe.read_all()
    assert [extract(reference, frame[1]) for reference in frame[0][1]] == payloads


def test_a_large_value_that_is_there_many_times_is_sent_once() -> None:
    text = "x" * 30_000
    frame = to_bytes(encode((3, [], [(1, [text] * 1000)])))
    assert len(frame) < 100_000
