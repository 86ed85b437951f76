"""Locks, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys

import pytest

from spo import gpus, locks, store


@pytest.fixture
def without_locks(monkeypatch, request):
    def refuse(*_):
        raise OSError(request.param, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_warned", set())


KINDS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


@pytest.mark.parametrize("without_locks", KINDS, ids=errno.errorcode.get, indirect=True)
def test_locked_works_without_locks_and_warns_once_with_the_folder(without_locks, tmp_path, capsys):
    for _ in range(2):
        with store.locked(tmp_path / "state"):
            store.write_text(tmp_path / "state" / "a", "done")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/state: this file system has no locks (No locks available)" in error


@pytest.mark.parametrize("without_locks", KINDS[:1], indirect=True)
def test_a_gpu_can_be_claimed_without_locks(without_locks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert gpus._lock("0") is not None
    assert "has no locks" in capsys.readouterr().err


def test_take_tells_whether_another_process_holds_the_lock(tmp_path):
    path = tmp_path / "lock"
    code = f"import fcntl; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_SH); print('held', flush=1); input()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with path.open("w") as file:
            assert locks.take(file) is False
            assert locks.take(file, shared=True) is True
            assert locks.take(file) is False
            other.communicate("\n")
            assert locks.take(file) is True
