"""Tests of CPython's that HybridExecutor is not meant to pass, each with the reason.

Two kinds: tests that read private attributes of ProcessPoolExecutor, and tests that pin a behaviour
that is better here. What each was after is tested in this project, by the test it names.
"""

from __future__ import annotations

PRIVATE = "reads private attributes, or puts its own in their place"
BETTER = "pins a behaviour that is better here"

#: Test method: reason, and our test of the same concern.
EXCLUDED: dict[str, str] = {
    # One call's trouble is that call's alone; ProcessPoolExecutor breaks the whole pool.
    "test_error_at_task_unpickle": (
        f"{BETTER}: contract/test_bad_payloads.py::test_a_bad_argument_fails_its_own_call"
    ),
    "test_exit_at_task_unpickle": (
        f"{BETTER}: contract/test_bad_payloads.py::test_a_bad_argument_fails_its_own_call"
    ),
    "test_error_during_result_unpickle_in_result_handler": (
        f"{BETTER}: contract/test_bad_payloads.py"
        "::test_a_bad_result_fails_alone_among_its_neighbours"
    ),
    "test_exit_during_result_unpickle_in_result_handler": (
        f"{BETTER}: contract/test_bad_payloads.py"
        "::test_a_bad_result_fails_alone_among_its_neighbours"
    ),
    "test_killed_child": (
        f"{BETTER}: contract/test_workers.py"
        "::test_a_killed_workers_call_is_lost_and_the_others_run_elsewhere"
    ),
    # It wants some of 50 calls to run though they were cancelled before any had started.
    "test_cancel_futures": (
        f"{BETTER}: contract/test_lifecycle.py"
        "::test_cancel_futures_cancels_what_has_not_started_only"
    ),
    # It wants an executor that cannot start a second thread to be broken; after a fork none is
    # needed here. The other start methods need one for each start, and are broken as they should.
    "test_python_finalization_error": (
        f"{BETTER}: contract/test_engine.py::test_workers_that_cannot_be_started_break_the_executor"
    ),
    "test_processes_terminate": (
        f"{PRIVATE}: contract/test_lifecycle.py::test_shutdown_waits_for_calls_and_workers"
    ),
    "test_del_shutdown": (
        f"{PRIVATE}: contract/test_lifecycle.py"
        "::test_a_forgotten_executor_finishes_its_calls_and_ends"
    ),
    "test_shutdown_no_wait": (
        f"{PRIVATE}: contract/test_lifecycle.py"
        "::test_shutdown_without_waiting_returns_and_calls_still_end"
    ),
    "test_saturation": (
        f"{PRIVATE}: contract/test_workers.py::test_no_more_workers_than_asked_for"
    ),
    "test_max_tasks_per_child_defaults_to_spawn_context": (
        f"{PRIVATE}: contract/test_bad_use.py::test_max_tasks_per_child_needs_no_context"
    ),
    "test_shutdown_deadlock_pickle": (
        f"{PRIVATE}: contract/test_lifecycle.py"
        "::test_shutdown_right_after_a_call_that_cannot_be_pickled"
    ),
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (
        f"{PRIVATE}: contract/test_engine.py::test_a_full_wake_up_pipe_holds_nobody_up"
    ),
}


#: The same of the tests of multiprocessing.Pool.
POOL_EXCLUDED: dict[str, str] = {
    # The result is a lambda, which is carried here.
    "test_unpickleable_result": (
        f"{BETTER}: contract/test_pool_results.py::test_a_result_that_cannot_be_pickled"
    ),
    # It closes the pool at once, and wants a worker to be started all the same. Here, a worker that
    # is not needed any more ends.
    "test_pool_initializer": (
        f"{BETTER}: contract/test_pool_itself.py::test_every_worker_is_started_and_initialized"
    ),
    # It hands in a context that makes no processes; ours are not made by the context.
    "test_release_unused_processes": (
        f"{PRIVATE}: contract/test_pool_itself.py::test_what_is_left_of_a_pool_that_cannot_be_made"
    ),
}
#: Those that do not apply with "fork", where there is no maxtasksperchild, as ProcessPoolExecutor
#: has it.
POOL_EXCLUDED_WITH_FORK: dict[str, str] = dict.fromkeys(
    ("test_pool_worker_lifetime", "test_pool_worker_lifetime_early_close"),
    f"{BETTER}: contract/test_pool_itself.py::test_bad_arguments",
)
