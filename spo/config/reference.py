"""What a config may say, written out: the JSON schema for editors and the table of keys in config/README.md.

`python -m spo.config.reference` writes both anew from the settings dataclasses; a test compares them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from spo.config.study import Study
from spo.settings import Train
from spo.settings.base import SETTINGS

BEGIN, END = "<!-- keys: written by `python -m spo.config.reference` -->", "<!-- end of keys -->"

#: Parts of the schema in reading order: (heading, definition).
SECTIONS = (
    ("Top level", "Study"),
    ("datasets.{name}", "Dataset"),
    ("models.{name}", "Model"),
    ("models.{name}.architecture", "Architecture"),
    ("models.{name}.tokenizer", "Tokenizer"),
    ("models.{name}.sft", "Sft"),
    ("protocols.{name}", "Protocol"),
    ("sampling, of protocols and of training", "Sampling"),
    ("training, methods.{name}.train, experiments.{name}.train, experiments.{name}.overrides.{method}", "Train"),
    ("credit of kind chain", "Chain"),
    ("credit.partition", "Partition"),
    ("credit of kind tree", "Tree"),
    ("credit.replay", "Replay"),
    ("credit of kind group", "Group"),
    ("credit of kind critic", "Critic"),
    ("credit of kind accepted", "Accepted"),
    ("credit of kind pairs", "Pairs"),
    ("loss", "Loss"),
    ("optimizer, of training and of models.{name}.sft", "Optimizer"),
    ("memory, of training and of protocols", "Memory"),
    ("methods.{name}", "Method"),
    ("experiments.{name}", "Experiment"),
    ("figures.{name}", "Figure"),
    ("tables.{name}", "Table"),
    ("audits.{name}", "AuditPlan"),
    ("audits.{name}.audit", "Audit"),
    ("traces.{name}", "TracePlan"),
    ("traces.{name}.trace", "Trace"),
    ("claims.{name}", "Claim"),
    ("claims.{name}.parts", "Evidence"),
    ("style", "Style"),
    ("resources", "Resources"),
    ("resources.{rule}", "Job"),
    ("resources.train, resources.train_with_critic", "TrainJob"),
    ("rates", "Rates"),
    ("rates.datasets.{name}", "Lengths"),
)


def schema() -> dict[str, Any]:
    """JSON schema of a config file or overlay: nothing is required, since only the files together must be complete."""
    for cls in SETTINGS:
        cls.__pydantic_config__ = cls.__pydantic_config__ | {"use_attribute_docstrings": True}
    document = _complete_schema()
    _relax(document)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _complete_schema() -> dict[str, Any]:
    document = TypeAdapter(Study).json_schema()
    train = TypeAdapter(Train).json_schema()
    definitions = document["$defs"] | train.pop("$defs") | {"Train": train}
    partial = {"$ref": "#/$defs/Train"}
    document["properties"]["training"] |= partial
    definitions["Method"]["properties"]["train"] |= partial
    definitions["Experiment"]["properties"]["train"] |= partial
    definitions["Experiment"]["properties"]["overrides"]["additionalProperties"] = partial
    document["$defs"] = dict(sorted(definitions.items()))
    document["title"] = "A study, or an overlay"
    return document


def schema_text() -> str:
    """The content of config/schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def key_table() -> str:
    """The generated part of config/README.md: every key with its type, default and meaning."""
    document = _complete_schema()
    definitions = document["$defs"] | {"Study": document}
    missing = sorted(set(definitions) - {name for _, name in SECTIONS})
    if missing:
        raise ValueError(f"reference.SECTIONS lacks {missing}")
    parts = []
    for heading, name in SECTIONS:
        definition = definitions[name]
        rows = [f"### {heading}", "", _words(definition.get("description", "")), ""]
        rows += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key, entry in definition["properties"].items():
            needed = key in definition.get("required", ()) or "const" in entry
            default = "needed" if needed else _default(entry, definitions)
            cells = (f"`{key}`", _type(entry), default, _words(entry.get("description", "")))
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def readme(text: str) -> str:
    """`text` with its key table written anew."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{key_table()}\n\n{END}{after}"


def write(folder: Path) -> None:
    """Write schema.json and the table of README.md in the config folder anew."""
    (folder / "schema.json").write_text(schema_text(), encoding="utf-8")
    page = folder / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")


def _relax(node: Any) -> None:
    """Take off in place what only a complete study must have, and what editors do not need."""
    if isinstance(node, list):
        for item in node:
            _relax(item)
    if not isinstance(node, dict):
        return
    for key in ("required", "discriminator"):
        if not isinstance(node.get(key), dict) or "propertyName" in node[key]:
            node.pop(key, None)
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    for item in list(node.values()):
        _relax(item)


def _type(entry: dict[str, Any]) -> str:
    """A schema entry in a few words.

    >>> _type({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]})
    'number from 0 to 1, or empty'
    >>> _type({"type": "array", "items": {"type": "integer", "minimum": 1}})
    'list of whole numbers from 1'
    """
    choices = entry.get("anyOf") or entry.get("oneOf")
    if choices:
        inner = [_type(each) for each in choices if each.get("type") != "null"]
        return " or ".join(inner) + (", or empty" if len(inner) < len(choices) else "")
    if "$ref" in entry:
        return f"{entry['$ref'].rpartition('/')[2]} settings"
    if "enum" in entry or "const" in entry:
        return " or ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    kind = entry.get("type", "anything")
    if kind == "array":
        items = entry.get("items") or (entry.get("prefixItems") or [{}])[0]
        words = _type(items)
        plural = words if words.startswith(("text", "`")) else words.replace("number", "numbers", 1)
        return f"list of {plural}"
    if kind == "object":
        return "mapping"
    words = {"integer": "whole number", "string": "text", "boolean": "true or false"}.get(kind, kind)
    if (low := entry.get("minimum")) is not None:
        words += f" from {low:g}"
    if (low := entry.get("exclusiveMinimum")) is not None:
        words += f" above {low:g}"
    if (high := entry.get("maximum")) is not None:
        words += f" to {high:g}"
    return words


def _default(entry: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The default; of a block of settings only what differs from the defaults of that block."""
    value = entry.get("default")
    if value in (None, "", [], {}):
        return "empty"
    if isinstance(value, dict):
        name = next(each["$ref"] for each in [entry, *entry.get("anyOf", [])] if "$ref" in each).rpartition("/")[2]
        usual = {key: each.get("default") for key, each in definitions[name]["properties"].items()}
        value = {key: each for key, each in value.items() if each and each != usual[key]}
        if not value:
            return "see there"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _words(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    write(Path("config"))
