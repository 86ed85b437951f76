from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest

from spo.__main__ import main
from spo.errors import UserError
from spo.evaluation.grade import grade_file
from spo.grading import GRADERS


def write(path, *lines) -> None:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_verdicts_are_added_and_all_else_is_kept(tmp_path):
    first = {"id": "b", "answer": r"\frac{1}{2}", "response": r"\boxed{0.5}", "seed": [1, None]}
    second = {"id": "a", "answer": "3", "response": "⏎ no idea \u2028"}
    write(tmp_path / "in.jsonl", first, "", second)
    grade_file(tmp_path / "in.jsonl", GRADERS["math"], tmp_path / "out.jsonl")
    named = {"grader": "math", "version": GRADERS["math"].version}
    assert read(tmp_path / "out.jsonl") == [
        first | {"correct": True, "extracted": "0.5", "reason": "equal"} | named,
        second | {"correct": False, "extracted": None, "reason": "no answer"} | named,
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object"),
        ({"response": "5"}, "field 'answer' is missing or no text"),
        ({"answer": "5", "response": None}, "field 'response' is missing or no text"),
        ({"answer": 5, "response": "5"}, "field 'answer' is missing or no text"),
        ('{"answer": "5", "response": "5", "score": NaN}', "a value is not a finite number"),
        ('{"answer": "5", "response": "5", "score": 1e999}', "a value is not a finite number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_are_graded(tmp_path, bad, reason):
    good = {"answer": "5", "response": "#### 5"}
    write(tmp_path / "in.jsonl", good, bad, good, bad)
    with pytest.raises(UserError, match=r"in\.jsonl:2: ") as caught:
        grade_file(tmp_path / "in.jsonl", GRADERS["gsm8k"], tmp_path / "out.jsonl")
    assert reason in str(caught.value)
    assert "(and 1 more bad lines); the 2 good lines are graded in" in str(caught.value)
    assert [row["correct"] for row in read(tmp_path / "out.jsonl")] == [True, True]


def test_gzip_and_a_byte_order_mark_are_read(tmp_path):
    line = json.dumps({"answer": "5", "response": "#### 5"}).encode()
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + line + b"\r\n"))
    grade_file(tmp_path / "in.jsonl.gz", GRADERS["gsm8k"], tmp_path / "out.jsonl")
    assert [row["correct"] for row in read(tmp_path / "out.jsonl")] == [True]


def test_the_command(tmp_path, capsys):
    write(tmp_path / "in.jsonl", {"answer": "5", "response": "#### 5"})
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert main(["grade-file", "--grader", "gsm8k", *files]) == 0
    assert read(tmp_path / "out.jsonl")[0]["correct"]
    assert main(["grade-file", "--grader", "gsm8", *files]) == 2
    assert capsys.readouterr().err == "spo: --grader: unknown grader gsm8 (did you mean gsm8k?)\n"
    assert main(["grade-file", "--grader", "gsm8k", "--input", str(tmp_path / "none"), *files[2:]]) == 2
    assert "none: cannot be read: No such file" in capsys.readouterr().err


def test_grade_file_sums_up_also_when_a_line_is_bad(tmp_path, capsys):
    rows = [{"answer": "5", "response": text} for text in ["#### 5"] * 3 + ["#### 6", "I give up", ""]]
    write(tmp_path / "in.jsonl", *rows)
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert main(["grade-file", "--grader", "gsm8k", *files]) == 0
    assert capsys.readouterr().out == "6 graded: 3 right, 2 without answer\n"
    write(tmp_path / "in.jsonl", *rows, "[")
    assert main(["grade-file", "--grader", "gsm8k", *files]) == 2
    assert capsys.readouterr().out == "6 graded: 3 right, 2 without answer\n"


def test_grade_to_standard_output_prints_lines_there_and_the_summary_elsewhere(tmp_path):
    write(tmp_path / "in.jsonl", {"answer": "5", "response": "#### 5"})
    command = [sys.executable, "-m", "spo", "grade-file", "--grader", "gsm8k", "--input", str(tmp_path / "in.jsonl")]
    done = subprocess.run([*command, "--output", "/dev/stdout"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["correct"]
    assert done.stderr == "1 graded: 1 right, 0 without answer\n"
