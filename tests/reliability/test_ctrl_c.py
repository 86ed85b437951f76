"""Ctrl-C as a person presses it: the terminal sends SIGINT to everything in the foreground."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spo import store
from spo.settings import Protocol, changed
from tests import tiny

ROOT = Path(__file__).parents[2]
CTRL_C = b"\x03"
WAIT_S = 300  # for output that a hanging command never writes


class Terminal:
    """A command in the foreground of a terminal of its own, in `folder`; errors go to the file `errors` there."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.ours, theirs = os.openpty()
        with (folder / "errors").open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=theirs,
                stdout=theirs,
                stderr=file,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                preexec_fn=lambda: _take_terminal(),
            )
        os.close(theirs)
        self.seen = b""

    def wait_for(self, pattern: bytes) -> None:
        while not re.search(pattern, self.seen):
            assert self._read(), f"ended without {pattern!r}: {self.seen!r}"

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def end(self) -> int:
        """Exit code."""
        while self._read():
            pass
        os.close(self.ours)
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.ours], [], [], WAIT_S)
        assert ready, f"nothing for {WAIT_S} s: {self.seen!r}"
        try:
            data = os.read(self.ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data
        return bool(data)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def spo(command: str, name: str, file: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "spo", command, name, "--config", str(file), *more]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--processes", "2")], ids=["one", "two"])
def test_ctrl_c_saves_the_iteration_and_says_so_in_one_line(more, model, tmp_path):
    settings = replace(tiny.BASE, iterations=5000, checkpoint_every=5000, validate_every=5000)
    terminal = Terminal(spo("train", tiny.RUN, tiny.study(tmp_path, settings, model), *more), tmp_path)
    terminal.wait_for(rb"tiny-digits-m-s1 2/5000 ")
    terminal.press(CTRL_C)
    assert terminal.end() == 128 + signal.SIGINT
    (line,) = (tmp_path / "errors").read_text().splitlines()
    found = re.fullmatch(
        r"spo: tiny-digits-m-s1: stopped by Ctrl-C after iteration (\d+); the same command continues", line
    )
    assert found and int(found[1]) >= 2
    assert max(path.name for path in (tmp_path / "results/state").rglob("step-*")) == f"step-{int(found[1]):06d}"
    assert terminal.seen.count(b"Ctrl-C: ends after this iteration; press it again to end at once") == 1


@pytest.mark.slow
def test_ctrl_c_in_generation_keeps_the_parts_that_are_done(model, tmp_path):
    store.write_jsonl(tmp_path / "results/data/digits/test.jsonl", tiny.problems(2000))
    protocol = Protocol(samples_per_problem=16, sampling=tiny.BASE.sampling, batch_rows=16)
    parts = {"protocols": {"greedy": changed(protocol)}, "experiments": {"e": {"contexts": [60]}}}
    file = tiny.study(tmp_path, model=model, **parts)
    terminal = Terminal(spo("generate", "tiny/digits/greedy", file), tmp_path)
    terminal.wait_for(rb" 1/2000 problems")
    terminal.press(CTRL_C)
    code, lines = terminal.end(), (tmp_path / "errors").read_text().splitlines()
    found = re.search(
        r"predictions.jsonl: stopped by Ctrl-C after (\d+) of 2000 problems; the same command continues", lines[0]
    )
    assert code == 128 + signal.SIGINT and len(lines) == 1 and found
    assert len(list((tmp_path / "results/state").rglob("part-*.jsonl"))) == int(found[1])
