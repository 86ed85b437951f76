"""The table of claims: what the paper says, what was measured here, and the verdict of the rule fixed before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, claims, results, stats
from spo.analysis.claims import Effect
from spo.analysis.slices import Claim, Evidence, Table
from spo.analysis.typeset import Made
from spo.errors import UserError

#: What each statistic measures, for readers.
MEASURED = {
    "accuracy": "test accuracy{context}: {first} − {second}",
    "context_gain": "lead of {first} over {second}, shortest − longest context",
    "accuracy_at_equal_seconds": "{validation} at equal time: {first} − {second}",
    "accuracy_at_equal_tokens": "{validation} at equal tokens: {first} − {second}",
    "late_accuracy": "last {validations}: {first} − {second}",
    "points_per_trajectory": "sampling points saved: {first} against {second}",
    "generation_seconds": "generation time saved: {first} against {second}",
    "training_rise": "rise of training accuracy: {first}",
    "distinct_fall": "fall of distinct responses: {first}",
    "validation_fall": "fall from the best {validation}: {first}",
    "credit_error": "squared error of advantages: {second} − {first}",
}
#: Each rule in words; `above` is judged first by what replicates, then by what does not.
RULES = {
    "above": "above 0; fails below {relevant}",
    "not_below": "above −{relevant}; fails below 0",
    "similar": "within ±{relevant}; fails outside",
}
#: How differences of a unit are written, and the unit behind them.
UNITS = {"points": ("{:.1f}", ""), "%": ("{:.0f}", " %"), "squared error": ("{:.3f}", "")}


def claims_table(settings: Table, root: Path) -> Made:
    """One row for each part of each claim: what was measured, its interval, the rule, and the verdicts.

    Source of the claims: `claims:` in the config; of the statistics and rules: `spo.analysis.claims`.
    """
    if not settings.claims:
        raise UserError(f"tables: {settings.title!r} has no claims to judge; add `claims:` to the config")
    rows, cells = [], []
    for claim in settings.claims:
        effects = [claims.STATISTICS[part.statistic](root, part) for part in claim.parts]
        judged = list(zip(claim.parts, effects, strict=True))
        verdicts = [claims.verdict(part.rule, effect.difference, part.relevant) for part, effect in judged]
        whole = claims.whole(verdicts)
        rows += [
            _numbers(claim, part, effect) | {"verdict": said, "claim_verdict": whole}
            for (part, effect), said in zip(judged, verdicts, strict=True)
        ]
        cells += _cells(claim, judged, verdicts, whole)
    numbers = pd.DataFrame(rows)
    numbers.insert(numbers.columns.get_loc("p_value") + 1, "p_holm", stats.holm(numbers["p_value"].to_numpy()))
    words = ("replicates?", "measured", "replicates if", "part", "in", "paper")
    return Made(numbers, pd.DataFrame(cells), _caption(settings, numbers), words, lead=_count(numbers))


def _numbers(claim: Claim, part: Evidence, effect: Effect) -> dict[str, object]:
    return {
        "claim": claim.name,
        "text": claim.text,
        "source": claim.source,
        "statistic": part.statistic,
        "in": part.study.name if part.study else Path(part.files[0]).parent.name,
        "first": part.first,
        "second": part.second or "",
        "context": _context(part),
        "seeds": effect.seeds,
        "n": effect.n,
        "counted": effect.counted,
        **dict(zip(("difference", "low", "high", "p_value"), effect.difference, strict=True)),
        "unit": effect.unit,
        "remark": effect.remark,
        "rule": part.rule,
        "relevant": part.relevant,
    }


def _cells(
    claim: Claim, judged: list[tuple[Evidence, Effect]], verdicts: list[str], whole: str
) -> Iterator[dict[str, str]]:
    for place, ((part, effect), said) in enumerate(zip(judged, verdicts, strict=True)):
        single, unit = UNITS[effect.unit]
        yield {
            "claim": claim.text if place == 0 else "",
            "replicates?": {claims.REPLICATES: "yes", claims.FAILS: "no"}.get(whole, whole) if place == 0 else "",
            "measured": _measured(part) + (f", {effect.remark}" if effect.remark else ""),
            "difference [95 %]": _interval(effect),
            "replicates if": RULES[part.rule].format(relevant=f"{part.relevant:g}{unit}"),
            "part": said + _unsaid(effect),
            "seeds": str(effect.seeds),
            "n": f"{effect.n} {effect.counted}",
            "in": (part.study.title or part.study.name) if part.study else f"audit {Path(part.files[0]).parent.name}",
            "paper": claim.source if place == 0 else "",
        }


def _unsaid(effect: Effect) -> str:
    """Return why no rule judges an interval without width, else nothing.

    >>> _unsaid(Effect(stats.Difference(0.0, 0.0, 0.0, 1.0), "points", 8, "problems", 3))
    ': no spread, all alike'
    """
    return ": no spread, all alike" if effect.difference.low == effect.difference.high else ""


def _measured(part: Evidence) -> str:
    labels = {arm.method: arm.label for arm in results.arms(part.study)} if part.study else {}
    first, second = (labels.get(name, name) for name in (part.first, part.second))
    shown = f" at {_context(part)} tokens" if part.study and len(part.study.contexts) > 1 else ""
    sampled = "" if part.metric == "validation_accuracy" else "sampled "
    validated = {"validation": f"{sampled}validation accuracy", "validations": f"{sampled}validation accuracies"}
    return MEASURED[part.statistic].format(first=first, second=second, context=shown, **validated)


def _context(part: Evidence) -> int | str:
    """The context of an accuracy; the other statistics have none."""
    return part.context or max(part.study.contexts) if part.statistic == "accuracy" else ""


def _interval(effect: Effect) -> str:
    form, unit = UNITS[effect.unit]
    value, low, high = (_signed(form, part) for part in effect.difference[:3])
    if not np.isfinite(effect.difference[:3]).all():
        return f"{value}{unit} (one seed)"
    return f"{value} [{low}, {high}]{unit}"


def _signed(form: str, value: float) -> str:
    """A number with its sign, none where it rounds to 0.

    >>> _signed("{:.1f}", -0.04), _signed("{:.1f}", -2.0), _signed("{:.0f}", 3.2)
    ('0.0', '−2.0', '+3')
    """
    text = form.format(abs(value))
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def _count(numbers: pd.DataFrame) -> str:
    """Return how many claims there are, and how many of each verdict."""
    counts = numbers.drop_duplicates("claim")["claim_verdict"].value_counts()
    said = ", ".join(
        f"{counts.get(verdict, 0)} {words}"
        for verdict, words in (
            (claims.REPLICATES, "replicate"),
            (claims.FAILS, "do not"),
            (claims.UNKNOWN, "cannot be told"),
        )
    )
    total = numbers["claim"].nunique()
    return f"{total} claim{'s' if total != 1 else ''}: {said}."


def _caption(settings: Table, numbers: pd.DataFrame) -> str:
    text = (
        "A claim replicates if all its parts do, and does not if any part does not. Differences of accuracy are in "
        "points of 100, savings in per cent of the second. The rules were fixed before the runs: a part replicates, or "
        "fails, if its whole 95 % interval lies where the rule says; an interval without width, of results that are "
        f"all alike, tells nothing. Number of parts: {len(numbers)}. By chance alone about one interval in twenty "
        "would miss 0. The CSV has p-values of no difference, also adjusted for looking at all parts (Holm)."
    )
    if "credit_error" in set(numbers["statistic"]):
        text += " Cost of an estimator: tokens generated for its estimates, a token trained on."
    notes = [claim.note for claim in settings.claims if claim.note]
    return captions.with_note(" ".join([text, *notes]), settings)
