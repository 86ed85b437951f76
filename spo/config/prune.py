"""Removal of everything that loses its subject when it takes methods or experiments out of a study."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spo.analysis.slices import TABLE_READS
from spo.config.layers import KeyPath, Layer, Place, Tree, dotted, place


@dataclass(frozen=True)
class Cut:
    """Cut of one layer: methods of an experiment, or the experiment itself (`methods` None)."""

    at: Place
    why: str
    methods: frozenset[str] | None = None


@dataclass
class _Study:
    """A study that is being cut: its layers, what is left, and a line for everything that was left out."""

    layers: Sequence[Layer]
    tree: Tree
    cuts: Mapping[str, Cut]
    lines: list[str] = field(default_factory=list)

    def section(self, *path: str) -> dict[str, Any]:
        """The mapping at a path; an empty one where there is none."""
        found: Any = self.tree
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def cut(self, path: KeyPath, experiment: Any, methods: Iterable[Any]) -> Cut | None:
        """The cut that takes the subject from what the key `path` names; none if that was written after it."""
        found = self.cuts.get(experiment) if isinstance(experiment, str) else None
        if found is None or place(self.layers, path).layer >= found.at.layer:
            return None
        return found if found.methods is None or not found.methods.isdisjoint(_texts(methods)) else None

    def say(self, path: KeyPath, why: str, at: Place | None = None) -> None:
        self.lines.append(f"{at or place(self.layers, path)}: {dotted(path)} is left out: {why}")


def pruned(layers: Sequence[Layer], tree: Tree) -> tuple[Tree, list[str]]:
    """Return a study without what its overlays took the subject from, and a line for everything left out.

    An overlay that names fewer methods of an experiment, or replaces `experiments`, leaves pairs, overrides, audits,
    traces, claims, figures and tables of lower layers behind. What the overlay itself or a later one writes stays.
    """
    study = _Study(layers, copy.deepcopy(tree), _cuts(layers, tree))
    if not study.cuts:
        return tree, []
    for key, experiment in study.section("experiments").items():
        _cut_experiment(study, key, experiment)
    dropped = {f"{section[:-1]}": _cut_section(study, section) for section in ("audits", "traces")}
    _cut_claims(study, dropped["audit"])
    for section in ("figures", "tables"):
        _cut_pictures(study, section, dropped)
    for key, table in list(study.section("tables").items()):
        _cut_columns(study, key, _mapping(table).get("columns"))
    return study.tree, study.lines


def _cuts(layers: Sequence[Layer], tree: Tree) -> dict[str, Cut]:
    left = tree.get("experiments")
    left = left if isinstance(left, Mapping) else {}
    found: dict[str, Cut] = {}
    for layer in layers:
        for name in _mapping(layer.tree.get("experiments")):
            at = place(layers, ("experiments", name, "methods"))
            if name not in left:
                at = place(layers, ("experiments",))
                found[name] = Cut(at, f"there is no experiment {name} any more")
                continue
            kept, had = _methods(left[name]), _methods(_mapping(layer.tree["experiments"]).get(name))
            taken = (found[name].methods or frozenset() if name in found else frozenset()) | (had - kept)
            if taken:
                found[name] = Cut(at, f"experiments.{name}.methods has no", taken)
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _methods(experiment: Any) -> frozenset[str]:
    methods = _mapping(experiment).get("methods")
    return frozenset(_texts(methods)) if isinstance(methods, list | tuple) else frozenset()


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _why(cut: Cut, methods: Iterable[Any]) -> str:
    if cut.methods is None:
        return cut.why
    return f"{cut.why} {', '.join(dict.fromkeys(name for name in _texts(methods) if name in cut.methods))}"


def _cut_experiment(study: _Study, key: str, experiment: Any) -> None:
    if not isinstance(experiment, dict):
        return
    pairs = experiment.get("pairs")
    for pair in pairs if isinstance(pairs, list) else ():
        path = ("experiments", key, "pairs")
        if isinstance(pair, list) and (cut := study.cut(path, key, pair)):
            experiment["pairs"] = [other for other in experiment["pairs"] if other is not pair]
            study.say((*path, f"[{', '.join(map(str, pair))}]"), _why(cut, pair), place(study.layers, path))
    for method in list(study.section("experiments", key, "overrides")):
        path = ("experiments", key, "overrides", method)
        if cut := study.cut(path, key, [method]):
            del experiment["overrides"][method]
            study.say(path, _why(cut, [method]))


def _cut_section(study: _Study, section: str) -> set[str]:
    """Leave out audits or traces; returns their names."""
    dropped = set()
    for key, entry in list(study.section(section).items()):
        entry = _mapping(entry)
        if cut := study.cut((section, key, "method"), entry.get("experiment"), [entry.get("method")]):
            del study.tree[section][key]
            dropped.add(key)
            study.say((section, key), _why(cut, [entry.get("method")]))
    return dropped


def _cut_claims(study: _Study, audits: set[str]) -> None:
    for key, claim in list(study.section("claims").items()):
        parts = _mapping(claim).get("parts")
        for part in map(_mapping, parts if isinstance(parts, list) else ()):
            named = [part.get("first"), part.get("second")]
            cut = study.cut(("claims", key, "parts"), part.get("experiment"), named)
            if cut or part.get("audit") in audits:
                del study.tree["claims"][key]
                study.say(("claims", key), _why(cut, named) if cut else f"audits.{part['audit']} is left out")
                break


def _cut_pictures(study: _Study, section: str, dropped: Mapping[str, set[str]]) -> None:
    had_claims = bool(_mapping(study.layers[0].tree.get("claims"))) and not study.section("claims")
    for key, entry in list(study.section(section).items()):
        path, entry = (section, key), _mapping(entry)
        lost = next((source for source, names in dropped.items() if entry.get(source) in names), None)
        shown = entry.get("methods") if isinstance(entry.get("methods"), list) else []
        cut = study.cut((*path, "methods" if shown else "experiment"), entry.get("experiment"), shown)
        kept = [method for method in shown if cut and cut.methods and method not in cut.methods]
        if lost:
            del study.tree[section][key]
            study.say(path, f"{lost}s.{entry[lost]} is left out")
        elif had_claims and TABLE_READS.get(str(entry.get("make"))) == ("claims",):
            del study.tree[section][key]
            study.say(path, "all claims are left out")
        elif cut and not kept:
            del study.tree[section][key]
            study.say(path, _why(cut, shown))
        elif cut:
            study.tree[section][key]["methods"] = kept
            lost_methods = ", ".join(method for method in shown if method not in kept)
            study.say((*path, f"methods: {lost_methods}"), _why(cut, shown), place(study.layers, (*path, "methods")))


def _cut_columns(study: _Study, key: str, columns: Any) -> None:
    if not isinstance(columns, dict):
        return
    for experiment, methods in list(columns.items()):
        path, shown = ("tables", key, "columns", experiment), methods if isinstance(methods, list) else []
        if cut := study.cut(path, experiment, shown):
            kept = [method for method in shown if cut.methods and method not in cut.methods]
            columns[experiment] = kept
            lost = ", ".join(_texts(method for method in shown if method not in kept))
            study.say((*path[:-1], f"{experiment}: {lost}"), _why(cut, shown), place(study.layers, path))
            if not kept:
                del columns[experiment]
    if not columns:
        del study.tree["tables"][key]
