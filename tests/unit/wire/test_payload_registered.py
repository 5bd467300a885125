"""What others register with copyreg changes no error that is carried."""

from __future__ import annotations

import pytest

from hybridexec.wire import exceptions, payload


@pytest.mark.parametrize("by_value", [False, True])
def test_an_exit_keeps_its_code_where_dask_was_imported(
    by_value: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")  # tblib registers how all exceptions are pickled
    monkeypatch.setattr(payload, "main_by_value", by_value)
    error = exceptions.unpack(exceptions.pack(SystemExit(3)))
    assert type(error) is SystemExit
    assert error.code == 3
