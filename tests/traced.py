"""A small trace as `python -m spo trace` writes it, with text that a page must escape."""

from __future__ import annotations

from dataclasses import asdict

from spo.settings import Chain, Trace, Tree


def trace() -> dict:
    """Two problems: the second response was cut off, its first value is not estimated, and its tree is only a root."""
    settings = Trace(chain=Chain(rollouts_per_cut=4), tree=Tree(branches=(2, 2), segment_tokens=2))
    return {"settings": asdict(settings), "problems": [finished(), cut_off()]}


def finished() -> dict:
    chain = {
        "tokens": ["7", " <", "2", "\n", "so", ' "yes"', ""],
        "probabilities": [0.5, 0.95, 0.99, 0.8, 1.0, 0.25, 1.0],
        "cutpoints": [0, 3, 5],
        "cuts": [0, 3, 7],
        "values": [0.5, 0.25, 1.0],
        "advantages": [-0.25, 0.75],
        "finished": True,
        "reward": 1.0,
    }
    tree = [
        node(-1, "", 0, 0.75, 0.0),
        node(0, "1 <", 2, 0.5, -0.25),
        node(0, "1 &", 2, 1.0, 0.25, leaf=True, finished=True),
        node(1, " 2", 2, 0.0, -0.5, leaf=True, finished=True),
        node(1, " <script>alert('x')</script>", 2, 1.0, 0.5, leaf=True, finished=False),
    ]
    question = "Is 1 < 2? <script>alert('x')</script>"
    return {"id": "p-1", "question": question, "answer": 'so "yes"', "chain": chain, "tree": tree}


def cut_off() -> dict:
    chain = {
        "tokens": ["word "] * 40,
        "probabilities": [0.99] * 40,
        "cutpoints": [],
        "cuts": [0, 40],
        "values": [None, 0.0],
        "advantages": [0.0],
        "finished": False,
        "reward": 0.0,
    }
    return {"id": "p-2", "question": "Long?", "answer": "no", "chain": chain, "tree": [node(-1, "", 0, 0.0, 0.0)]}


def node(
    parent: int, text: str, tokens: int, value: float, advantage: float, leaf: bool = False, finished: bool = False
) -> dict:
    names = {"parent": parent, "text": text, "tokens": tokens, "value": value, "advantage": advantage}
    return {**names, "leaf": leaf, "finished": finished}
