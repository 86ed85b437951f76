"""results/trajectories.html: traced responses and trees to step through, in one file that needs no network.

Everything is in the page as escaped HTML; the script only shows one trajectory at a time and says what is under the
finger. Without it all of them are there, one below the other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from spo import store
from spo.analysis import results, texts
from spo.analysis.report import STYLE
from spo.analysis.slices import Page, Shown
from spo.analysis.trajectories_page import PAGE_STYLE, SCRIPT

#: Places in the drawing of a tree, in its own units: 360 fit on a phone.
TREE_WIDTH, ROW_HEIGHT, RADIUS, EDGE = 360, 22, 9.5, 12
CHART_WIDTH, CHART_HEIGHT = 360, 60

Row = dict[str, Any]


def write(settings: Page, results_root: Path, output: Path) -> None:
    """Write the page to `output`; UserError where a trace is missing."""
    articles, options, settings = [], [], texts.printable(settings)
    for shown in settings.traces:
        traced = results.read_json(results_root / shown.file)
        entries = []
        for number, problem in enumerate(traced["problems"], start=1):
            name = escape(f"{Path(shown.file).stem}-{number}", quote=True)
            articles.append(_article(name, shown, number, problem, traced["settings"]))
            entries.append(f"<option>{number}. {escape(_short(problem['question']))}</option>")
        options.append(f'<optgroup label="{escape(shown.title, quote=True)}">{"".join(entries)}</optgroup>')
    title = escape(settings.title)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><style>{STYLE}{PAGE_STYLE}</style></head><body class="by-probability">'
        f"<header><h1>{title}</h1>{_controls(options, len(articles))}</header>"
        f'<main>{"".join(articles)}</main><aside id="readout" aria-live="polite">{HINT}</aside>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )
    store.write_text(output, page)


HINT = "Point at a segment or a node, tap it, or reach it with the Tab key, to read its values."


def _controls(options: Sequence[str], count: int) -> str:
    return (
        f'<div class="controls"><button id="previous" type="button" aria-label="Previous trajectory">‹</button>'
        f'<select id="choose" aria-label="Trajectory">{"".join(options)}</select>'
        f'<button id="next" type="button" aria-label="Next trajectory">›</button>'
        f'<span id="place" class="quiet">1 of {count}</span></div>'
        '<fieldset class="controls"><legend>Colour by</legend>'
        '<label><input type="radio" name="colour" value="by-probability" checked> probability</label>'
        '<label><input type="radio" name="colour" value="by-advantage"> advantage</label></fieldset>'
    )


def _article(name: str, shown: Shown, number: int, problem: Row, settings: Row) -> str:
    chain, tree = problem["chain"], problem["tree"]
    ending = "ended by itself" if chain["finished"] else "cut off at the limit"
    return (
        f'<article data-name="{name}"><h2>{escape(shown.title)}, problem {number}</h2>'
        f'<p class="question">{escape(problem["question"])}</p>'
        f'<p class="quiet">Answer: {escape(problem["answer"])}. Responses by {escape(shown.policy)}.</p>'
        f"<section><h3>A response in segments (SPO-chain)</h3>"
        f'<p class="quiet">Reward {chain["reward"]:g}, {ending}; {len(chain["tokens"])} tokens, '
        f"{len(chain['cutpoints'])} cutpoints, {len(chain['cuts']) - 1} segments. A value is the mean reward of "
        f"{settings['chain']['rollouts_per_cut']} rollouts.</p>{_key(settings['chain']['partition']['threshold'])}"
        f'<div class="response">{"".join(_segments(chain))}</div>{_chart(chain)}</section>'
        f"<section><h3>Responses as a tree (SPO-tree)</h3>"
        f'<p class="quiet">Each circle is a segment of at most {settings["tree"]["segment_tokens"]} tokens, those at '
        f"the right end run to the end of a response. The number in it is its value, the mean of the values to its "
        f"right; the number before it is its advantage, its value minus that of the circle to its left.</p>"
        f"{_tree(tree)}</section></article>"
    )


def _key(threshold: float) -> str:
    """What the marks mean, each as it is drawn below."""
    return (
        '<p class="key quiet">'
        '<span class="for-probability"><span class="scale probability"></span> improbable to sure</span>'
        '<span class="for-advantage"><span class="scale advantage"></span> made success less to more likely</span>'
        f'<span><span class="t cutpoint">word</span> cutpoint, probability below {threshold:g}</span>'
        '<span><span class="bar"></span> start of a segment, with its advantage</span>'
        "<span>↵ end of a line</span><span>∎ end of the response</span></p>"
    )


# ---- the response ----------------------------------------------------------------------------------------------------


def _segments(chain: Row) -> Iterator[str]:
    cuts, values = chain["cuts"], chain["values"]
    for k, advantage in enumerate(chain["advantages"]):
        start, end = cuts[k], cuts[k + 1]
        tokens = "".join(_token(chain, t) for t in range(start, end))
        inside = sum(start <= t < end for t in chain["cutpoints"])
        says = (
            f"Segment {k + 1} of {len(cuts) - 1}: value {_value(values[k])} → {_value(values[k + 1])}, advantage "
            f"{_signed(advantage)}; {_count(end - start, 'token')}, {_count(inside, 'cutpoint')}"
        )
        yield (
            f'<span class="segment {_side(advantage)}" style="--a:{abs(advantage):.3f}" tabindex="0" role="button" '
            f'data-label="{_signed(advantage)}" data-says="{says}" aria-label="{says}">{tokens}</span>'
        )


def _token(chain: Row, t: int) -> str:
    """A token; a line end has a sign, which stays on its line, and the end of the response has one too."""
    text, probability = chain["tokens"][t], chain["probabilities"][t]
    if not text:
        text = "∎" if chain["finished"] and t == len(chain["tokens"]) - 1 else ""
    kind = "t cutpoint" if t in chain["cutpoints"] else "t"
    word = text.lstrip(" ")
    shown = escape(word).replace("\n", "\u2060<i>↵</i>\n")
    return f'{" " * (len(text) - len(word))}<span class="{kind}" style="--p:{probability:.3f}">{shown}</span>'


def _chart(chain: Row) -> str:
    """The values at the cuts over the tokens, a step for each segment."""
    tokens = max(1, len(chain["tokens"]))
    points = [
        (4 + (CHART_WIDTH - 8) * cut / tokens, CHART_HEIGHT - 4 - (CHART_HEIGHT - 8) * min(1.0, max(0.0, value)))
        for cut, value in zip(chain["cuts"], chain["values"], strict=True)
        if value is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" aria-label="Values at the '
        f'cuts, from the first token to the last"><path d="M4 4V{CHART_HEIGHT - 4}H{CHART_WIDTH - 4}"/>'
        f'<polyline points="{line}"/>{dots}</svg><figcaption>Value, 0 to 1, from the first token to the last'
        "</figcaption></figure>"
    )


# ---- the tree --------------------------------------------------------------------------------------------------------


def _tree(nodes: Sequence[Row]) -> str:
    """The root at the left, a column a level, a row a leaf."""
    places = tree_places([node["parent"] for node in nodes])
    step = (TREE_WIDTH - 2 * EDGE) / max(1, *(column for column, _ in places))
    drawn = [(EDGE + step * column, ROW_HEIGHT * (row + 0.5)) for column, row in places]
    height = ROW_HEIGHT * (1 + max(row for _, row in places))
    edges = (_edge(drawn[node["parent"]], drawn[n], node) for n, node in enumerate(nodes) if node["parent"] >= 0)
    circles = (_node(n, node, *drawn[n]) for n, node in enumerate(nodes))
    return (
        f'<svg class="tree" viewBox="0 0 {TREE_WIDTH} {height:.0f}" role="group" aria-label="Tree of {len(nodes)} '
        f'nodes">{"".join(edges)}{"".join(circles)}</svg>'
    )


def tree_places(parents: Sequence[int]) -> list[tuple[int, float]]:
    """(column, row) of each node: its depth; leaves one below the other, parents in the middle of their children.

    >>> tree_places([-1, 0, 0, 1, 1])
    [(0, 1.25), (1, 0.5), (1, 2.0), (2, 0.0), (2, 1.0)]
    """
    children = [[child for child, parent in enumerate(parents) if parent == n] for n in range(len(parents))]
    rows, leaves = [0.0] * len(parents), 0

    def settle(n: int) -> None:
        nonlocal leaves
        for child in children[n]:
            settle(child)
        if children[n]:
            rows[n] = (rows[children[n][0]] + rows[children[n][-1]]) / 2
        else:
            rows[n], leaves = float(leaves), leaves + 1

    settle(0)
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    return list(zip(depths, rows, strict=True))


def _edge(start: tuple[float, float], end: tuple[float, float], node: Row) -> str:
    (a, b), (x, y) = start, end
    middle = (a + x) / 2
    curve = f"M{a:.1f} {b:.1f}C{middle:.1f} {b:.1f} {middle:.1f} {y:.1f} {x:.1f} {y:.1f}"
    return f'<path class="{_side(node["advantage"])}" d="{curve}"/>'


def _node(n: int, node: Row, x: float, y: float) -> str:
    value, advantage = _value(node["value"]), _signed(node["advantage"])
    if node["parent"] < 0:
        says, before = f"Before the first token: value {value}", ""
    else:
        ending = ", a whole response" if node["leaf"] and node["finished"] else ", cut off" if node["leaf"] else ""
        says = f"Segment: value {value}, advantage {advantage}; {_count(node['tokens'], 'token')}{ending}"
        width = 1 + 4.6 * len(advantage)
        before = (
            f'<rect x="{-RADIUS - 2 - width:.1f}" y="-5" width="{width:.1f}" height="10"/>'
            f'<text class="{_side(node["advantage"])}" x="{-RADIUS - 2}" y="3" text-anchor="end">{advantage}</text>'
        )
    return (
        f'<g class="node" tabindex="0" role="button" transform="translate({x:.1f} {y:.1f})" data-node="{n}" '
        f'data-parent="{node["parent"]}" data-text="{escape(node["text"], quote=True)}" data-says="{says}" '
        f'aria-label="{says}">{before}<circle r="{RADIUS}" style="--v:{min(1.0, max(0.0, node["value"])):.3f}"/>'
        f'<text y="3" text-anchor="middle">{value}</text></g>'
    )


# ---- words -----------------------------------------------------------------------------------------------------------


def _value(value: float | None) -> str:
    """A value as short as it can be.

    >>> _value(0.3333), _value(1.0), _value(None)
    ('.33', '1', 'not estimated')
    """
    if value is None:
        return "not estimated"
    return f"{value:g}" if value == round(value) else f"{value:.2f}".replace("0.", ".", 1)


def _signed(advantage: float) -> str:
    """An advantage with its sign.

    >>> _signed(0.25), _signed(-1.0), _signed(0.0)
    ('+.25', '−1', '0')
    """
    return f"{'+' if advantage > 0 else '−'}{_value(abs(advantage))}" if advantage else "0"


def _side(advantage: float) -> str:
    return "gain" if advantage > 0 else "loss" if advantage < 0 else "even"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _short(question: str) -> str:
    return textwrap.shorten(question, 60, placeholder=" …")
