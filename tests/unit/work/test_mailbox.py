"""The mailboxes of event loops: one wake-up for many letters, and none is lost."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

from hybridexec.parent.work import mailbox


class Loop(asyncio.SelectorEventLoop):
    """Counts how often it is woken."""

    woken = 0

    def call_soon_threadsafe(self, *args: object, **named: object) -> asyncio.Handle:  # type: ignore[override]
        self.woken += 1
        return super().call_soon_threadsafe(*args, **named)  # type: ignore[arg-type]


def run(main: object) -> Loop:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main)  # type: ignore[arg-type]
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
    return loop


def test_letters_that_come_together_wake_the_loop_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        letters = [mailbox.Letter(loop) for _ in range(100)]
        for letter in letters:
            letter.release()
        mailbox.deliver()
        await asyncio.gather(*[letter.waiter for letter in letters])
        letters = [mailbox.Letter(loop) for _ in range(100)]
        for letter in letters:
            letter.release()
            mailbox.deliver()
        await asyncio.gather(*[letter.waiter for letter in letters])

    assert run(main()).woken == 2


def test_a_waiter_that_was_cancelled_gets_none() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = mailbox.Letter(loop), mailbox.Letter(loop)
        first.waiter.cancel()
        first.release()
        second.release()
        mailbox.deliver()
        await second.waiter
        assert first.waiter.cancelled()

    run(main())


def test_letters_for_closed_and_for_collected_loops_are_dropped() -> None:
    letters: list[mailbox.Letter] = []

    async def main() -> None:
        letters.append(mailbox.Letter(asyncio.get_running_loop()))

    loop: Loop | None = run(main())
    letters[0].release()
    mailbox.deliver()
    assert loop is not None
    gone = weakref.ref(loop)
    loop = letters[0].waiter = None  # type: ignore[assignment]
    gc.collect()
    assert gone() is None
    letters[0]._mailbox._woken = False
    letters[0].release()
    mailbox.deliver()


def test_no_letter_of_many_threads_is_lost() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        letters = [mailbox.Letter(loop) for _ in range(2000)]

        def send(part: list[mailbox.Letter]) -> None:
            for letter in part:
                letter.release()
                mailbox.deliver()

        threads = [threading.Thread(target=send, args=(letters[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(30):
            await asyncio.gather(*[letter.waiter for letter in letters])
        for thread in threads:
            thread.join()

    run(main())


def test_each_loop_of_a_thread_has_a_box_of_its_own() -> None:
    boxes = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        boxes.append(mailbox.of(loop))
        assert mailbox.of(loop) is boxes[-1]

    run(main())
    run(main())
    assert boxes[0] is not boxes[1]
