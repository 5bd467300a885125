"""Every refusal at the door is of the right type and names the argument."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from hybridexec import HybridExecutor, checks, native, options
from hybridexec.options import UNCHANGED, CallOptions

NOT_INTEGERS = [True, False, 1.0, "4", b"4", [4], Fraction(4)]


class Integer(int):
    pass


# Each check by the name of its argument.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "max_workers": checks.max_workers,
    "concurrency": checks.concurrency,
    "max_pending": lambda value: checks.integer(value, "max_pending"),
    "chunksize": checks.chunksize,
    "buffersize": checks.buffersize,
    "max_tasks_per_child": checks.max_tasks_per_child,
}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("value", NOT_INTEGERS, ids=repr)
def test_what_must_be_an_integer_is_nothing_else(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\b"):
        CHECKS[name](value)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_counts_are_greater_than_zero(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        CHECKS[name](value)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("value", [1, 7, Integer(3)])
def test_counts_in_range_are_accepted(name: str, value: int) -> None:
    CHECKS[name](value)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("max_workers", checks.MAX_WORKERS), ("concurrency", checks.MAX_CONCURRENCY)],
)
def test_huge_counts_are_mistakes(name: str, limit: int) -> None:
    for value in (limit + 1, 10**30):
        with pytest.raises(ValueError, match=rf"^{name} must be at most {limit:,}"):
            CHECKS[name](value)


@pytest.mark.parametrize("name", ["concurrency", "max_pending", "chunksize", "max_tasks_per_child"])
def test_none_is_no_number(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\b"):
        CHECKS[name](None)


def test_none_means_no_buffersize() -> None:
    checks.buffersize(None)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_workers", 0, "max_workers must be greater than 0"),
        ("max_tasks_per_child", 1.5, "max_tasks_per_child must be an integer"),
        ("max_tasks_per_child", 0, "max_tasks_per_child must be >= 1"),
        ("chunksize", 0, "chunksize must be >= 1."),
        ("buffersize", "5", "buffersize must be an integer or None"),
        ("buffersize", 0, "buffersize must be None or > 0"),
    ],
)
def test_the_standard_librarys_texts_are_kept(name: str, value: object, text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        CHECKS[name](value)
    assert str(refusal.value) == text


# -- workers ----------------------------------------------------------------------------------


def test_the_default_is_a_worker_per_usable_cpu() -> None:
    assert checks.max_workers(None) == checks.usable_cpus() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinities")
def test_usable_cpus_are_those_this_process_may_run_on() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert checks.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


# -- concurrency and descriptors --------------------------------------------------------------


def limit_descriptors(
    monkeypatch: pytest.MonkeyPatch, hard: int, *, privileged: bool = False
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(hard, 10), hard))
    monkeypatch.setattr(checks, "_may_raise_limits", lambda: privileged)


def test_more_calls_than_descriptors_are_warned_of_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_descriptors(monkeypatch, hard=1024)
    message = r"concurrency=5,000 .* hard limit is 1,024.* at most 960"
    with pytest.warns(RuntimeWarning, match=message):
        assert checks.concurrency(5000) == 5000
    assert checks.concurrency(960) == 960


def test_who_may_raise_the_hard_limit_is_not_bound_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_descriptors(monkeypatch, hard=1024, privileged=True)
    assert checks.concurrency(5000) == 5000


def test_no_limit_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_descriptors(monkeypatch, hard=resource.RLIM_INFINITY)
    assert checks.concurrency(5000) == 5000


def test_a_tiny_limit_still_suggests_something_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_descriptors(monkeypatch, hard=16)
    with pytest.warns(RuntimeWarning, match=r"at most 1 and"):
        checks.concurrency(100)


# -- monkey patching and preloading -----------------------------------------------------------


@pytest.mark.parametrize("value", [True, False, {}, {"thread": False, "socket": True}])
def test_monkey_patch_takes_a_bool_or_switches(value: object) -> None:
    assert checks.monkey_patch(value) == value


def test_the_switches_are_copied() -> None:
    switches = {"thread": False}
    kept = checks.monkey_patch(switches)
    switches["thread"] = True
    assert kept == {"thread": False}


@pytest.mark.parametrize("value", [None, 1, "all", ["thread"], {"thread": 1}, {1: True}])
def test_monkey_patch_takes_nothing_else(value: object) -> None:
    with pytest.raises(TypeError, match=r"^monkey_patch must"):
        checks.monkey_patch(value)


def test_a_misspelt_switch_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^monkey_patch has no switch 'sockets'.*socket"):
        checks.monkey_patch({"sockets": True})


@pytest.mark.parametrize("value", [(), ["requests"], ("a", "b.c"), {"a": 1}])
def test_preload_takes_module_names(value: Any) -> None:
    assert checks.preload(value) == tuple(value)


def test_preload_takes_any_iterable() -> None:
    assert checks.preload(name for name in ("a", "b")) == ("a", "b")


@pytest.mark.parametrize("value", ["requests", b"requests", [1], [None], 5, None])
def test_preload_takes_nothing_else(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^preload must"):
        checks.preload(value)


def test_a_single_name_for_preload_is_refused_with_what_was_meant() -> None:
    with pytest.raises(TypeError, match=r"did you mean \['requests'\]"):
        checks.preload("requests")


# -- the others -------------------------------------------------------------------------------


def test_an_initializer_is_callable_or_none() -> None:
    assert checks.initializer(None) is None
    assert checks.initializer(print) is print
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        checks.initializer("print")


def test_initargs_are_iterable() -> None:
    assert checks.initargs([1, "two"]) == (1, "two")
    for value in (5, None, print):
        with pytest.raises(TypeError, match=r"^initargs must be a tuple of arguments"):
            checks.initargs(value)


def test_on_worker_loss_must_be_known() -> None:
    assert options.on_worker_loss("fail") == "fail"
    for value in ("ignore", None, 1, ["fail"]):
        with pytest.raises(ValueError, match=r"^on_worker_loss must be"):
            options.on_worker_loss(value)


def test_a_context_is_multiprocessings_or_none() -> None:
    checks.context(None)
    checks.context(multiprocessing)
    for method in multiprocessing.get_all_start_methods():
        checks.context(multiprocessing.get_context(method))
    for value in ("spawn", 1, object()):
        with pytest.raises(TypeError, match=r"^mp_context must be"):
            checks.context(value)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_most_start_methods_go_with_everything(method: str) -> None:
    checks.start_method(method, 10)


def test_fork_does_not_go_with_max_tasks_per_child() -> None:
    checks.start_method("fork", None)
    with pytest.raises(ValueError, match=r"^max_tasks_per_child is incompatible with the 'fork'"):
        checks.start_method("fork", 1)


def test_fork_does_not_go_with_a_patched_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_patched", lambda module: True)
    checks.start_method("spawn", None)
    with pytest.raises(ValueError, match=r"'fork' start method .* gevent"):
        checks.start_method("fork", None)


# -- options of calls -------------------------------------------------------------------------


def test_options_are_changed_in_a_copy() -> None:
    before = CallOptions()
    after = before.updated({"timeout": 2})
    assert before.timeout is None
    assert after.timeout == 2
    assert after.updated({}) == after
    assert after.updated({"timeout": None}) == before


def test_an_option_that_is_not_given_stays_as_it_is() -> None:
    before = CallOptions().updated({"timeout": 2, "retries": 3})
    assert before.updated(dict.fromkeys(["timeout", "retries", "backoff"], UNCHANGED)) == before
    assert repr(UNCHANGED) == "<unchanged>"


@pytest.mark.parametrize("name", ["retries", "retry_on", "backoff", "on_worker_loss"])
def test_only_a_timeout_may_be_none(name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        CallOptions().updated({name: None})


@pytest.mark.parametrize("value", [True, "1", [1], 1j])
def test_a_timeout_is_a_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"^timeout must be a number of seconds"):
        CallOptions().updated({"timeout": value})


@pytest.mark.parametrize(
    "value",
    [0, -1, -0.0, float("inf"), float("nan"), pytest.param(10**400, id="no float")],
)
def test_a_timeout_is_finite_and_greater_than_zero(value: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be a finite number"):
        CallOptions().updated({"timeout": value})


@pytest.mark.parametrize("value", [None, 0.3, 5, 1e6])
def test_a_hub_lag_to_warn_of_is_seconds_or_none(value: float | None) -> None:
    assert checks.hub_lag_warning(value) == value


@pytest.mark.parametrize(
    ("value", "error"),
    [(True, TypeError), ("5", TypeError), (0, ValueError), (-1, ValueError), (0.1, ValueError)],
)
def test_another_hub_lag_is_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^hub_lag_warning must be"):
        checks.hub_lag_warning(value)


# -- limits ---------------------------------------------------------------------------------------


def limits_of(options: CallOptions, **changes: Any) -> Any:
    return options.updated(changes).limits


def test_limits_are_made_anew_by_who_sets_some() -> None:
    before = CallOptions().updated({"rate": 5, "per": 60})
    assert (before.limits.rate, before.limits.per, before.limits.burst) == (5, 60, None)
    assert before.updated({"timeout": 2}).limits is before.limits
    after = limits_of(before, burst=3)
    assert (after.rate, after.per, after.burst) == (5, 60, 3)
    assert after is not before.limits
    assert limits_of(before, rate=5) is not before.limits


def test_limits_can_be_lifted() -> None:
    before = CallOptions().updated({"rate": 5, "key": len, "per_key": 2})
    assert limits_of(before, rate=None).per_key == 2
    assert limits_of(before, rate=None, per_key=None, key=None) is None
    assert limits_of(before, rate=None, per_key=None) is None


@pytest.mark.parametrize("name", ["rate", "rate_per_key"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), 10**400])
def test_a_rate_is_finite_and_greater_than_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number greater than 0"):
        limits_of(CallOptions(), key=len, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", "5"),
        ("rate", True),
        ("rate_per_key", [5]),
        ("per", "1"),
        ("per", None),
        ("burst", 1.5),
        ("burst", True),
        ("per_key", 2.0),
        ("key", "host"),
    ],
)
def test_limits_are_of_their_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must"):
        limits_of(CallOptions(), **{"rate": 1, "key": len, name: value})


@pytest.mark.parametrize(("name", "value"), [("per", 0), ("burst", 0), ("per_key", 0)])
def test_limits_are_greater_than_zero(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must"):
        limits_of(CallOptions(), **{"rate": 1, "key": len, name: value})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"per_key": 2}, "per_key needs key=, a callable"),
        ({"rate_per_key": 2}, "rate_per_key needs key=, a callable"),
        ({"burst": 2}, "burst needs rate= or rate_per_key="),
        ({"per": 2}, "per needs rate= or rate_per_key="),
        ({"per": 2, "key": len, "per_key": 1}, "per needs rate= or rate_per_key="),
        ({"key": len}, "key needs per_key=, rate_per_key= or rate="),
    ],
)
def test_what_says_nothing_without_another_is_refused(changes: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        limits_of(CallOptions(), **changes)


def test_equal_keys_are_one_as_long_as_any_is_known() -> None:
    limits = limits_of(CallOptions(), key=lambda host, *, port=80: (host, port), per_key=1)
    one = limits.find(("a",), {})
    assert limits.find(("a",), {"port": 80}) is one
    assert limits.find(("a",), {"port": 81}) is not one
    assert len(limits._keys) == 1
    del one
    assert not limits._keys


# -- the interpreter ------------------------------------------------------------------------------


def test_a_free_threaded_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(NotImplementedError, match=r"gevent.*free-threaded Python: use a build"):
        HybridExecutor(2)


def test_one_that_has_its_gil_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    checks.interpreter()
    monkeypatch.delattr(sys, "_is_gil_enabled")
    checks.interpreter()
