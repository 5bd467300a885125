"""Two sides of a channel, and what they hold."""

from __future__ import annotations

import os

import numpy as np

from hybridexec.wire import shared
from hybridexec.wire.frames import FrameReader, embed, encode, extract
from hybridexec.wire.parts import SHARED_FROM
from hybridexec.wire.payload import Payload, Segments
from hybridexec.wire.shared import Channel, Region, open_channel

SIZE = SHARED_FROM  # bytes, the smallest that are shared


def files() -> list[tuple[int, int]]:
    """This process's descriptors of payloads: each with the file's number."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "hybridexec-payload" in os.readlink(f"/proc/self/fd/{name}"):
                found.append((int(name), os.stat(int(name)).st_ino))
        except OSError:
            continue  # the listing's own
    return found


def mapped() -> bool:
    with open("/proc/self/maps") as maps:
        return "hybridexec-payload" in maps.read()


def file_of(payload: Payload) -> shared.File:
    assert type(payload) is Segments
    (file,) = {part.file for part in payload.parts if isinstance(part, Region)}
    return file


def number_of(payload: Payload) -> int:
    return os.stat(file_of(payload).fd).st_ino


class Sides:
    """A writer and a reader of frames, with a channel."""

    def __init__(self, later: bool = False) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.ours, other = open_channel()
        self.theirs = Channel(other)
        self.reader = FrameReader(self.read_fd, self.theirs.take, later)

    def write(self, *payloads: Payload) -> int:
        """Send payloads in one frame; how many bytes of it went through the pipe."""
        segments: list[shared.Part] = []
        head = (1, [embed(payload, segments) for payload in payloads])
        buffers = encode(head, segments, self.ours.hand_over)
        return sum(os.write(self.write_fd, buffer) for buffer in buffers)

    def read(self) -> list[Payload]:
        """The payloads of the next frame."""
        while not (received := self.reader.read()):
            pass
        (frame,) = received
        return [extract(reference, frame[1]) for reference in frame[0][1]]

    def send(self, *payloads: Payload) -> list[Payload]:
        self.write(*payloads)
        return self.read()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        os.close(self.read_fd)
        os.close(self.write_fd)


def arrays(*sizes: int) -> list[np.ndarray]:
    return [np.random.default_rng(size).integers(0, 256, size, np.uint8) for size in sizes]
