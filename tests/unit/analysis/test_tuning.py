from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from spo.analysis import tables
from spo.analysis.slices import Arm, Run, Study, Table
from spo.errors import UserError
from tests.finished_study import write_jsonl


def arm(method: str, of: str, rate: str) -> Arm:
    changes = (("optimizer.lr", rate),)
    runs = (Run(run=method, seed=11),)
    return Arm(method=method, label=f"{of}, {rate}", colour="#000000", runs=runs, variant_of=of, changes=changes)


ARMS = (arm("a.lr1", "A", "1e-4"), arm("a.lr2", "A", "1e-5"), arm("a.lr3", "A", "3e-5"), arm("b.lr1", "B", "1e-5"))
STUDY = Study(name="search", dataset="tales", protocol="greedy", contexts=(64,), arms=ARMS)
TABLE = Table(make="tuning_table", title="Search", study=STUDY)


def run(root: Path, name: str, accuracies: list[float], seconds: float) -> None:
    """Validations at iterations 0, 2 and 6."""
    rows = [{"iteration": i, "sampled_tokens_total": 0} for i in range(7)]
    for i, accuracy in zip((0, 2, 6), accuracies, strict=True):
        rows[i] |= {"validation_accuracy": accuracy, "validation_n": 300}
    write_jsonl(root / "runs" / name / "metrics.jsonl", rows)
    timing = [{"iteration": i, "seconds": {}, "seconds_total": seconds * i / 6} for i in range(7)]
    write_jsonl(root / "runs" / name / "timing.jsonl", timing)


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    run(tmp_path, "a.lr1", [0.1, 0.5, 0.7], 60)  # last two .6, curve (2 * .3 + 4 * .6) / 6 = .5
    run(tmp_path, "a.lr2", [0.1, 0.7, 0.5], 30)  # last two .6 as well, at a smaller rate; curve .533
    run(tmp_path, "a.lr3", [0.1, 0.1, 0.9], 30)  # highest at last, but .5 over the last two; curve .367
    run(tmp_path, "b.lr1", [0.1, 0.1, 0.1], 12)
    return tmp_path


def test_every_method_has_one_best_and_ties_go_to_the_smaller_rate(searched):
    tables.write("t", TABLE, searched, searched / "out/t")
    lines = (searched / "out/t.md").read_text().splitlines()
    assert lines[2:8] == [
        "| method | changes | last two validations, % | last, % | whole curve, % | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| A | optimizer.lr 1e-4 | 60.0 | 70.0 | 50.0 | 60 |",
        "|  | **optimizer.lr 1e-5** | **60.0** | **50.0** | **53.3** | **30** |",
        "|  | optimizer.lr 3e-5 | 50.0 | 90.0 | 36.7 | 30 |",
        "| **B** | **optimizer.lr 1e-5** | **10.0** | **10.0** | **10.0** | **12** |",
    ]
    assert "300 validation problems of tales, 1 seed a try" in lines[-1]
    numbers = pd.read_csv(searched / "out/t.csv")
    assert numbers.loc[numbers["best"], "method"].tolist() == ["a.lr2", "b.lr1"]
    assert numbers["n"].tolist() == [300] * 4 and numbers["seeds"].tolist() == [1] * 4


def test_misuse_is_one_line(tmp_path):
    with pytest.raises(UserError, match="'Search' needs an experiment"):
        tables.write("t", Table(make="tuning_table", title="Search"), tmp_path, tmp_path / "t")
    with pytest.raises(UserError, match=r"a\.lr1/metrics\.jsonl: missing; run `snakemake"):
        tables.write("t", TABLE, tmp_path, tmp_path / "t")
