"""joblib's Parallel, with the backend "hybridexec"."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("joblib")
pytest.importorskip("threadpoolctl")

import joblib
from joblib import Parallel, delayed, parallel_config

import hybridexec
from hybridexec import WorkerLost, get_reusable_executor, joblib_backend

HERE = Path(__file__).parent
#: Not imported: its marks are not ours.
THEIRS = Path(joblib.__file__).parent / "test" / "test_parallel.py"


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    hybridexec.joblib.register()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail_or_wait(number: int) -> int:
    if number == 0:
        raise ValueError("0 is bad")
    time.sleep(1000)
    return number


def nested(number: int) -> list[float]:
    results: list[float] = Parallel(n_jobs=2)(delayed(sqrt)(number * each) for each in (1, 4))
    return results


def threads() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def pids(*_: object) -> int:
    time.sleep(0.01)
    return os.getpid()


def test_joblibs_first_example() -> None:
    with parallel_config(backend="hybridexec", n_jobs=2):
        assert Parallel()(delayed(sqrt)(i**2) for i in range(10)) == list(range(10))
        assert joblib.effective_n_jobs(None) == 2


def test_workers_stay_for_the_next_call() -> None:
    before = set(Parallel(n_jobs=2, backend="hybridexec")(map(delayed(pids), range(9))))
    after = set(Parallel(n_jobs=2, backend="hybridexec")(map(delayed(pids), range(9))))
    assert before & after


@pytest.mark.parametrize(
    "way", ["generator", pytest.param("generator_unordered", marks=pytest.mark.slow)]
)
def test_results_come_as_a_generator(way: str) -> None:
    results = Parallel(n_jobs=2, backend="hybridexec", return_as=way)(
        delayed(sqrt)(i**2) for i in range(50)
    )
    assert sorted(results) == list(range(50))


def test_an_error_ends_the_call_at_once_and_the_next_one_works() -> None:
    parallel = Parallel(n_jobs=2, backend="hybridexec")
    with pytest.raises(ValueError, match="0 is bad"):
        parallel(delayed(fail_or_wait)(i) for i in range(2))
    # The other batch holds no worker any more.
    assert parallel(delayed(nap)(0) for _ in range(4)) == [0] * 4


def test_a_timeout_is_joblibs() -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, backend="hybridexec", timeout=0.2)(delayed(nap)(100) for _ in range(2))


@pytest.mark.slow
def test_a_dead_worker_is_told_and_the_next_call_works() -> None:
    with pytest.raises(WorkerLost):
        Parallel(n_jobs=2, backend="hybridexec")(delayed(os._exit)(3) for _ in range(2))
    assert Parallel(n_jobs=2, backend="hybridexec")(delayed(abs)(-1) for _ in range(3)) == [1] * 3


@pytest.mark.slow
def test_nested_calls_run() -> None:
    results = Parallel(n_jobs=2, backend="hybridexec")(delayed(nested)(i) for i in (1, 4))
    assert results == [[1, 2], [2, 4]]


def test_with_concurrency_calls_that_wait_run_at_once() -> None:
    with parallel_config(backend="hybridexec", n_jobs=1, concurrency=20):
        assert joblib.effective_n_jobs(None) == 20
        began = time.monotonic()
        assert Parallel()(delayed(nap)(0.5) for _ in range(40)) == [0.5] * 40
        assert time.monotonic() - began < 40 * 0.5


@pytest.mark.slow
def test_libraries_get_the_threads_that_they_are_granted() -> None:
    with parallel_config(backend="hybridexec", n_jobs=2, inner_max_num_threads=3):
        assert set(Parallel()(delayed(threads)() for _ in range(2))) == {"3"}


@pytest.mark.parametrize(("n_jobs", "workers"), [(1, 1), (3, 3), (-1, joblib.cpu_count())])
def test_n_jobs_is_the_number_of_workers(n_jobs: int, workers: int) -> None:
    backend = joblib_backend.HybridBackend()
    assert backend.effective_n_jobs(n_jobs) == workers
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


@pytest.mark.slow
def test_other_arguments_end_nobodys_batches() -> None:
    results: list[Any] = []

    def long() -> None:
        results.extend(
            Parallel(n_jobs=2, backend="hybridexec")(delayed(nap)(0.01) for _ in range(30))
        )

    other = threading.Thread(target=long)
    other.start()
    mine = get_reusable_executor(1)
    for concurrency in (2, 3):
        with parallel_config(backend="hybridexec", n_jobs=1, concurrency=concurrency):
            assert Parallel()(delayed(abs)(-1) for _ in range(3)) == [1] * 3
    other.join()
    assert results == [0.01] * 30
    assert mine.submit(abs, -2).result(timeout=30) == 2
    mine.shutdown()


@pytest.mark.parametrize("missing", ["joblib", "threadpoolctl"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ImportError, match=rf"needs {missing}.*pip install 'hybridexec\[joblib\]'"):
        hybridexec.joblib.register()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_joblibs_own_tests_of_a_backend_pass() -> None:
    options = ["-q", "-n0", "-p", "joblibs_own", "-p", "no:cacheprovider", "--timeout=120"]
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(THEIRS)],
        env={**environment, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    passed = re.search(r"(\d+) passed", told.stdout)
    assert passed is not None
    assert int(passed[1]) > 80


@pytest.mark.slow
def test_scikit_learn_searches_a_grid() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    data, target = load_iris(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, n_jobs=2)
    with parallel_config(backend="hybridexec"):
        search.fit(data, target)
    assert search.best_score_ > 0.9
