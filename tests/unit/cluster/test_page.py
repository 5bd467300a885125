"""A copy of a status page: times by our clock, and how many calls may have started."""

from __future__ import annotations

import pytest

pytest.importorskip("distributed")

from hybridexec import native
from hybridexec.cluster.page import RemotePage
from hybridexec.wire import page
from hybridexec.wire.page import HEADER_BYTES, HEARTBEAT, TAKEN, StatusPage, create_fd

SLOTS = 3


@pytest.fixture
def there() -> StatusPage:
    fd = create_fd(SLOTS)
    made = StatusPage(fd, SLOTS)
    native.close(fd)
    return made


def copy(there: StatusPage, here: RemotePage, offset: float = 0.0) -> None:
    fields = there.copied()
    here.copy(fields[:HEADER_BYTES], fields[HEADER_BYTES:], offset)


def test_what_runs_is_told_by_our_clock(there: StatusPage) -> None:
    slot = page.slot_index(1)
    there.words[slot] = 7
    there.times[slot + 1] = 100.0
    here = RemotePage(SLOTS)
    copy(there, here, offset=-30.0)
    assert here.running() == {7: 70.0}
    assert here.starts() == [70.0]


def test_a_free_slot_stays_one(there: StatusPage) -> None:
    here = RemotePage(SLOTS)
    copy(there, here, offset=5.0)
    assert here.running() == {}
    assert here.heartbeat == 0.0


def test_an_old_copy_does_not_make_a_hub_late(
    there: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = native.monotonic()
    monkeypatch.setattr(native, "monotonic", lambda: now)
    there.times[HEARTBEAT] = now - 0.4
    here = RemotePage(SLOTS)
    copy(there, here)
    assert now - here.heartbeat < 0.3
    there.times[HEARTBEAT] = now - 5
    copy(there, here)
    assert now - here.heartbeat > 4


def test_a_silent_node_does_not_make_a_hub_late(
    there: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [native.monotonic()]
    monkeypatch.setattr(native, "monotonic", lambda: now[0])
    there.times[HEARTBEAT] = now[0] - 0.1
    here = RemotePage(SLOTS)
    copy(there, here)
    now[0] += 6
    assert now[0] - here.heartbeat == 0
    # One that was late when the node was last heard of is no later than it was then.
    there.times[HEARTBEAT] = now[0] - 3
    copy(there, here)
    now[0] += 5
    assert 2 < now[0] - here.heartbeat < 3


def test_what_runs_is_told_as_it_was_when_it_was_copied(there: StatusPage) -> None:
    there.words[TAKEN] = 4
    slot = page.slot_index(0)
    there.words[slot] = -3  # the call that was taken last, 7
    there.times[slot + 1] = 1.0
    here = RemotePage(SLOTS)
    copy(there, here)
    here.reach(6)
    assert here.taken == 6
    assert here.running() == {7: 1.0}


def test_all_that_was_sent_may_have_started_when_the_connection_is_lost(there: StatusPage) -> None:
    there.words[TAKEN] = 2
    here = RemotePage(SLOTS)
    here.sent = 5
    copy(there, here)
    assert here.taken == 2
    here.reach(3)
    assert here.taken == 3
    here.lost = True
    assert here.taken == 5


def test_nobody_holds_it() -> None:
    assert not RemotePage(SLOTS).hold(1)


def test_histograms_come_along(there: StatusPage) -> None:
    from hybridexec.wire import histogram

    histogram.add(there.words, there.times, there.runs_at, 0.5, 4)
    here = RemotePage(SLOTS)
    copy(there, here, offset=1e6)
    assert here.run_seconds.count == 4
    assert here.run_seconds.largest == 0.5
