"""Files appear whole or not at all, and a bad line is named."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.errors import RunFailure, UserError
from spo.store import check_id, read_json, read_jsonl, sha256_file, write_bytes, write_json, write_jsonl, write_text
from spo.types import Problem

PYTHON = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new folder" / "ä" / "file.txt"
    write_text(path, "one")
    write_text(path, "two\n")
    assert path.read_text() == "two\n"
    assert list(path.parent.iterdir()) == [path]


def test_json_keeps_order_and_takes_numpy_and_dataclasses(tmp_path):
    path = tmp_path / "a.json"
    write_json(
        path, {"b": np.float32(0.5), "a": np.arange(2), "c": (np.int64(3), Path("x/y")), "d": Problem("p", "q", "1")}
    )
    assert list(read_json(path)) == ["b", "a", "c", "d"]
    expected = {"b": 0.5, "a": [0, 1], "c": [3, "x/y"], "d": {"id": "p", "question": "q", "answer": "1"}}
    assert read_json(path) == expected
    assert path.read_text().endswith("}\n")


def test_jsonl_is_one_object_a_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"id": "1", "text": "a\nb\u2028c"}, {"id": "2", "text": "é"}]
    write_jsonl(path, iter(rows))
    assert path.read_bytes().count(b"\n") == 2
    assert read_jsonl(path, required=("id", "text")) == rows
    write_jsonl(path, [])
    assert read_jsonl(path) == []


@given(
    st.lists(st.dictionaries(st.text(), st.text(st.characters(), max_size=8) | st.floats(allow_nan=False, width=32)))
)
def test_whatever_is_written_is_read_back(tmp_path_factory, rows):
    rows = [{k: v for k, v in row.items() if v not in (float("inf"), float("-inf"))} for row in rows]
    path = tmp_path_factory.getbasetemp() / "roundtrip.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows


def test_a_lone_surrogate_survives(tmp_path):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"text": "\ud83d"}])
    path.read_bytes().decode()
    assert read_jsonl(path) == [{"text": "\ud83d"}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_a_number_that_is_not_finite_is_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"loss": 1})
    with pytest.raises(RunFailure, match=r"cannot write .*a\.json: a value is not a finite number"):
        write_json(path, {"loss": value})
    assert read_json(path) == {"loss": 1}


def test_byte_order_mark_blank_lines_and_carriage_returns_are_passed_over(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\r\n{"id": 2}')
    assert read_jsonl(path, ("id",)) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c"])
def test_read_jsonl_keeps_characters_that_only_look_like_line_ends(tmp_path, character):
    path = tmp_path / "a.jsonl"
    raw = character if character >= " " and character != "\x7f" else json.dumps(character)[1:-1]
    path.write_bytes(f'{{"id": "a{raw}b"}}\n{{"id": "c"}}'.encode())
    assert read_jsonl(path) == [{"id": f"a{character}b"}, {"id": "c"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_jsonl_takes_every_line_end_and_marks_of_files_put_together(tmp_path, end):
    path = tmp_path / "a.jsonl"
    path.write_bytes(end.join(['\ufeff{"id": 1}', "", '\ufeff{"id": 2}', "x"]).encode())
    with pytest.raises(UserError, match=r"a\.jsonl:4: not valid JSON"):
        read_jsonl(path)
    path.write_bytes(end.join(['\ufeff{"id": 1}', "", '\ufeff{"id": 2}']).encode())
    assert read_jsonl(path) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 1', "not valid JSON: Expecting ',' delimiter at column 9"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b"3.5", "expected a JSON object, found a number"),
        (b"true", "expected a JSON object, found a boolean"),
        (b'{"id": 1}', "field 'answer' is missing or null"),
        (b'{"id": 1, "answer": null}', "field 'answer' is missing or null"),
        (b'{"id": 1, "answer": NaN}', "not valid JSON: NaN is not a number"),
        (b'{"id": 1, "answer": 1e999}', "not valid JSON: 1e999 is too large a number"),
        (b'{"id": 1, "answer": {"a": 1, "b": 2, "b": 2}}', "key 'b' is given twice"),
        (b'{"id": "\xff"}', "not UTF-8 at byte 8"),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": 0, "answer": ""}\n\n' + line + b"\n")
    with pytest.raises(UserError) as caught:
        read_jsonl(path, required=("id", "answer"))
    assert str(caught.value) == f"{path}:3: {reason}"


def test_further_bad_lines_are_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{}\n{"a": 1}\nx\n[]\n')
    with pytest.raises(UserError, match=r":1: field 'a' is missing or null \(and 2 more bad lines\)$"):
        read_jsonl(path, required=("a",))


@pytest.mark.parametrize("read", [read_json, read_jsonl, sha256_file])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(UserError, match="nothing.json: cannot be read: No such file or directory"):
        read(tmp_path / "nothing.json")


def test_sha256(tmp_path):
    write_bytes(tmp_path / "a", b"abc" * 100_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_path_that_cannot_be_is_one_line(tmp_path):
    write_text(tmp_path / "file", "x")
    with pytest.raises(RunFailure, match=r"cannot write .*file/below \(1 bytes\): (Not a directory|File exists)"):
        write_text(tmp_path / "file" / "below", "y")


def test_running_out_of_space_names_the_path_and_keeps_the_old_file(tmp_path):
    """A real limit of the operating system on file size stands in for a full disk."""
    path = tmp_path / "a.json"
    write_json(path, "old")
    script = (
        "import sys\nfrom spo.store import write_json\nfrom spo.errors import RunFailure\n"
        "try:\n    write_json(sys.argv[1], 'x' * 100_000)\nexcept RunFailure as error:\n    print(error)\n"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = subprocess.run([sys.executable, "-c", script, str(path)], preexec_fn=limit, capture_output=True, text=True)
    assert done.stdout == f"cannot write {path} (100003 bytes): File too large\n", done.stderr
    assert read_json(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_while_writing_a_reader_still_finds_a_whole_file(tmp_path):
    path = tmp_path / "a.json"
    script = (
        "import sys\nfrom spo.store import write_json\n"
        "for n in range(10**9):\n    write_json(sys.argv[1], [n] * 50_000)\n    print(n, flush=True)\n"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        values = json.loads(path.read_text())
        assert len(values) == 50_000 and len(set(values)) == 1


@pytest.mark.parametrize("name", ["a", "pupil-stories-spo_chain.int2-s1", "0", "a" * 100])
def test_good_names(name):
    assert check_id(name) == name


@pytest.mark.parametrize(
    "name", ["", "../../x", "/etc", "a/b", "a" * 300, "CON", "a\n", "-a", ".a", "é", "a b", None, 3]
)
def test_bad_names(name):
    with pytest.raises(UserError, match="is not a valid name: use 1-100 of") as caught:
        check_id(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_files_get_ordinary_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "b").st_mode


def test_write_bytes_writes_to_a_pipe_and_leaves_it_a_pipe(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "all of it\n")
    reader.join(timeout=30)
    assert got == [b"all of it\n"]
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_write_bytes_writes_to_a_device(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    for path in (link, Path("/dev/null")):
        write_text(path, "gone")
    assert link.is_symlink() and Path("/dev/null").is_char_device()


@pytest.mark.parametrize("exists", [True, False])
def test_write_bytes_replaces_what_a_link_points_to(tmp_path, exists):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "target", tmp_path / "link", tmp_path / "second"
    if exists:
        target.write_text("old")
    link.symlink_to(Path("far") / "target")
    second.symlink_to("link")
    write_text(second, "new")
    assert second.is_symlink() and link.is_symlink() and not target.is_symlink()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_write_bytes_to_a_link_that_leads_to_itself_is_one_error(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(RunFailure, match="cannot write"):
        write_text(link, "x")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_write_bytes_to_standard_output_appends_where_the_shell_appends(tmp_path, name):
    log = tmp_path / "log"
    log.write_text("before\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from spo.store import write_text\nprint('first')\nwrite_text({name!r}, 'second\\n')\nprint('third')"
    with log.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, cwd=tmp_path, env=PYTHON, check=True)
    assert log.read_text() == "before\nfirst\nsecond\nthird\n"


def test_write_bytes_to_standard_output_reaches_a_pipe(tmp_path):
    code = "from spo.store import write_text\nwrite_text('/dev/stdout', 'x' * 200_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=PYTHON, check=True)
    assert done.stdout == b"x" * 200_000 and done.stderr == b""
