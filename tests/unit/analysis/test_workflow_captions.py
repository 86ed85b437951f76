from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from docutils.core import publish_parts

CAPTIONS = Path(__file__).parents[3] / "workflow" / "report"


@pytest.mark.parametrize(
    ("caption", "kind", "says"),
    [
        ("figure", '{"draw": "accuracy_bars"}', "whiskers 95 % intervals"),
        ("figure", '{"draw":"learning_curves"}', "thick lines"),
        ("figure", '{"draw": "another"}', "item.csv"),
        ("table", '{"make": "context_table"}', "as fractions"),
        ("table", '{"make": "cost_table"}', "peak memory"),
        ("report", "", "needs no network"),
        ("workflow", "", "2505.23564"),
    ],
)
def test_captions_render_as_snakemake_renders_them(caption, kind, says):
    text = (CAPTIONS / f"{caption}.rst").read_text(encoding="utf-8")
    names = SimpleNamespace(figure="item", table="item")
    snakemake = SimpleNamespace(wildcards=names, params=SimpleNamespace(settings=kind))
    rendered = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(snakemake=snakemake)
    body = publish_parts(rendered, writer="html5", settings_overrides={"report_level": 5})["body"]
    assert says in body.replace("\n", " ")
    assert "system-message" not in body
