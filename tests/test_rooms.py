"""The architecture, checked by reading imports: who may know whom, and what nobody may do."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = (
    "spo",
    "spo.types",
    "spo.errors",
    "spo.finite",
    "spo.seeds",
    "spo.locks",
    "spo.store",
    "spo.settings",
    "spo.prefixes",
    "spo.gpus",
)
GROUND += ("spo.stopping", "spo.launch", "spo.paths", "spo.start")
MATHS = ("spo.credit", "spo.losses", "spo.objectives", "spo.batching")
WORLD = ("spo.data", "spo.grading", "spo.policy")
MODELS = ("torch", "transformers", "jinja2", "tokenizers", "safetensors", "datasets", "vllm", "huggingface_hub")


@dataclass(frozen=True)
class Room:
    """Modules of a room by prefix, and what they may import besides the standard library."""

    modules: tuple[str, ...]
    may: tuple[str, ...]


ROOMS = {
    "ground": Room(GROUND, (*GROUND, "numpy", "annotated_types", "pydantic")),
    "maths": Room(MATHS, (*GROUND, *MATHS, "numpy", "torch")),
    "data": Room(("spo.data",), (*GROUND, "spo.data", "numpy", "pydantic", "datasets")),
    "grading": Room(("spo.grading",), (*GROUND, "spo.grading", "mpmath", "math_verify")),
    "policy": Room(("spo.policy",), (*GROUND, "spo.policy", "numpy", *MODELS)),
    # Practice meets the world only as the type of what it is handed.
    "practice": Room(
        ("spo.methods", "spo.training"),
        (*GROUND, *MATHS, "spo.methods", "spo.training", "spo.policy:Policy", "spo.policy:ValueModel")
        + ("numpy", "torch", "safetensors"),
    ),
    "exam": Room(("spo.evaluation",), (*GROUND, *WORLD, "spo.evaluation", "numpy")),
    "press": Room(("spo.analysis",), (*GROUND, "spo.analysis", "numpy", "pandas", "scipy", "matplotlib")),
    # The config knows names of things (dicts of functions) and the slices that it fills, nothing that computes.
    "desk": Room(
        ("spo.config",),
        (*GROUND, "spo.config", "spo.analysis.slices", "pydantic", "ruamel", "annotated_types")
        + (
            "spo.data:DATASETS",
            "spo.data:check_settings",
            "spo.data:local_files",
            "spo.data:trains",
            "spo.data:first_question",
            "spo.policy.tokenizer",
            "spo.grading:GRADERS",
            "spo.policy:BACKENDS",
            "spo.policy.model_folder",
            "spo.policy.chat:has_template",
            "spo.credit.partition:PARTITIONS",
        ),
    ),
}
EVERYTHING = ("spo.__main__", "spo.verbs", "spo.inspection", "spo.wiring")  # the command line joins all rooms, lazily


def sources() -> list[Path]:
    return sorted((ROOT / "spo").rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> Room | None:
    if name in EVERYTHING:
        return None
    found = [room for room in ROOMS.values() if any(within(name, prefix) for prefix in room.modules)]
    assert len(found) == 1, f"{name} is in no room or in several: say in ROOMS where it belongs"
    return found[0]


def within(name: str, prefix: str) -> bool:
    return name == prefix or (prefix != "spo" and name.startswith(prefix + "."))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, `module` or `module:name`) of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / whole.replace(".", "/")).is_dir() or (
                    ROOT / f"{whole.replace('.', '/')}.py"
                ).exists()
                yield node.lineno, whole if is_module else f"{node.module}:{alias.name}"


def allowed(name: str, may: tuple[str, ...]) -> bool:
    owner = name.partition(":")[0]
    if owner.partition(".")[0] in sys.stdlib_module_names:
        return True
    return name in may or any(within(owner, prefix) for prefix in may if ":" not in prefix)


@pytest.mark.parametrize("path", sources(), ids=module)
def test_imports_stay_within_the_rooms(path: Path) -> None:
    room = room_of(module(path))
    if room is not None:
        wrong = [f"{path.name}:{line}: {name}" for line, name in imports(path) if not allowed(name, room.may)]
        assert not wrong


@pytest.mark.parametrize("path", sources(), ids=module)
def test_nobody_imports_the_desk(path: Path) -> None:
    name = module(path)
    if not name.startswith("spo.config") and name not in EVERYTHING:
        assert not [imported for _, imported in imports(path) if within(imported.partition(":")[0], "spo.config")]


HEAVY_AT_TOP = (
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "safetensors",
    "pandas",
    "matplotlib",
    "scipy",
    "vllm",
)
LIGHT = (
    "spo.types",
    "spo.errors",
    "spo.finite",
    "spo.seeds",
    "spo.store",
    "spo.settings",
    "spo.__main__",
    "spo.config",
    "spo.grading",
)
LIGHT += ("spo.data", "spo.policy", "spo.credit.partition", "spo.analysis.slices")
LIGHT += ("spo.policy.model_folder", "spo.policy.architecture", "spo.policy.tensor_files")


def test_what_a_dry_run_imports_is_light() -> None:
    """Modules that Snakemake, --help and grading load import the heavy libraries only inside functions."""
    for path in sources():
        name = module(path)
        if name in LIGHT or name.startswith(("spo.config.", "spo.grading.", "spo.data.", "spo.settings.")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in tree.body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                assert not [each for each in names if each.partition(".")[0] in HEAVY_AT_TOP], f"{path}:{node.lineno}"


CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {("torch", "load"), ("os", "system")}


@pytest.mark.parametrize("path", sources(), ids=module)
def test_nothing_runs_what_it_reads(path: Path) -> None:
    """No pickle, no eval, no code of others: a data file, a config or a checkpoint can never execute anything."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {name.partition(".")[0] for name in names}, (
                where
            )
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, where
            tensors_alone = any(word.arg == "weights_only" and word.value.value is True for word in node.keywords)
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and not tensors_alone:
                assert (node.func.value.id, node.func.attr) not in ATTRIBUTES, where
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "trust_remote_code", "shell"):
                    assert isinstance(keyword.value, ast.Constant) and not keyword.value.value, where


@pytest.mark.parametrize("path", sources(), ids=module)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            assert not broad, f"{path}:{node.lineno}: name the errors that are expected"
