"""What the README links is there; what it says of results stands in the files that it links, and what it says of the
paper's study in the plan."""

import csv
import re
from pathlib import Path

from spo import config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = re.search(r"^## Results\n(.*?)^## ", README, re.DOTALL | re.MULTILINE).group(1)


def test_every_link_leads_to_a_file():
    found = _links(README)
    assert found and not [link for link in found if not (ROOT / link).exists()]


def test_every_decimal_of_the_results_stands_in_a_file_linked_beside_it():
    """A block is a paragraph or an item of a list; the claims table has a test of its own."""
    blocks = [block for block in re.split(r"\n\n|\n(?=- )", RESULTS) if not block.startswith("|")]
    checked, missing = 0, []
    for block in blocks:
        known = set().union(*(_numbers(ROOT / link) for link in _links(block)))
        said = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]\d)", re.sub(r"\]\([^)]*\)", "]", block))
        checked += len(said)
        missing += [(number, block[:60]) for number in said if number not in known]
    assert checked > 20 and not missing


def test_the_claims_table_is_the_one_of_the_study():
    table = [line for line in (ROOT / "reference/laptop/claims.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) > 12 and "\n".join(table) in RESULTS


def test_what_each_target_takes_is_what_plan_says():
    study = config.load([ROOT / "config/config.yaml", ROOT / "config/paper.yaml"])
    plan = {line[:34].strip(): line[34:].split() for line in config.forecast(study).splitlines() if line[:2] == "  "}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:3] == "| `"]
    rows = [row for row in rows if row[1:2] and row[1] in plan]
    assert [row[1] for row in rows] == [name for name in plan if name]
    for targets, name, hours, memory, disk in rows:
        *_, planned_memory, planned_hours, planned_disk = plan[name]
        assert (hours, memory, disk) == (planned_hours, planned_memory, planned_disk), name
        shown = [key for key, picture in (study.figures | study.tables).items() if picture.experiment == name]
        assert re.findall(r"`(\w+)`", targets) == (shown or ["all"])


def _links(text: str) -> list[str]:
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", text)


def _numbers(path: Path) -> set[str]:
    """Decimals in a file as they may be written: those of a CSV with one place, and as per cent too."""
    if path.suffix == ".csv":
        cells = [cell for row in csv.reader(path.open()) for cell in row]
        values = [float(cell) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)]
        return {f"{abs(factor * value):.{places}f}" for value in values for factor in (1, 100) for places in (1, 2)}
    return set(re.findall(r"\d+\.\d+", path.read_text())) if path.suffix in (".md", ".txt") else set()
