"""What training, evaluation and inspection are handed of a tokenizer and a dataset: prompts, rewards, ends of lines.

Like `spo.verbs` it knows all rooms and imports them inside the functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable


def rendered(dataset, question: str) -> str:
    """The prompt that asks `question`."""
    return dataset.prompt.replace("{question}", question)


def first_prompt(tokenizer, dataset, questions: Iterable[str]) -> str:
    """The first prompt as text and as ids, in a line of JSON: what a template or a tokenizer gets wrong shows in it."""
    text = next((rendered(dataset, question) for question in questions), "")
    return json.dumps({"prompt": text, "ids": tokenizer.encode(text)})


def encoder(tokenizer, dataset) -> Callable:
    """Problem -> prompt ids, each computed once."""
    cache: dict[str, tuple[int, ...]] = {}

    def encode(problem):
        if problem.id not in cache:
            cache[problem.id] = tokenizer.encode(rendered(dataset, problem.question))
        return cache[problem.id]

    return encode


def rewarder(tokenizer, dataset, train) -> Callable:
    """(problem, response ids, finished) -> reward, as `World.reward`."""
    from spo import grading

    grader = grading.GRADERS[dataset.grader]

    def reward(problem, response_ids, finished):
        if not finished and train.unfinished_reward == "zero":
            return 0.0
        return grading.reward(grader.grade(problem.answer, tokenizer.decode(response_ids)))

    return reward


def line_ends(tokenizer) -> Callable:
    """Response ids -> positions of tokens that end a line, as `World.line_ends`."""
    from spo.credit.steps import step_ends

    pieces = [tokenizer.decode([i]) for i in range(tokenizer.vocabulary_size)]
    return lambda ids: step_ends([pieces[i] for i in ids])
