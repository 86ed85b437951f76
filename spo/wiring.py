"""Prompt encoders, reward functions and token texts from a tokenizer and a dataset.

Like `spo.verbs` it knows all rooms and imports them inside the functions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path


def rendered(dataset, question: str) -> str:
    """The prompt that asks `question`."""
    return dataset.prompt.replace("{question}", question)


def prompter(tokenizer, dataset, folder: Path | None = None) -> Callable[[str], tuple[str, tuple[int, ...]]]:
    """Return the function from a question to (prompt, its ids).

    With `dataset.chat` the prompt is made by the chat template of the model in `folder`. Special tokens are those that
    the prompt writes out: none is added, so that there is no second beginning of a sequence.
    """
    if not dataset.chat:
        return lambda question: _with_ids(tokenizer, rendered(dataset, question))
    from spo.policy import chat

    template, written = chat.template(folder), tokenizer.with_written_specials()
    return lambda question: _with_ids(written, template(dataset.message.replace("{question}", question)))


def _with_ids(tokenizer, text: str) -> tuple[str, tuple[int, ...]]:
    return text, tokenizer.encode(text)


def asked_with(dataset, folder: Path) -> object:
    """Return what decides the text of prompts, for the fingerprint of unfinished work."""
    if not dataset.chat:
        return dataset.prompt
    from spo.policy import chat

    return {"message": dataset.message, "template": chat.files_digest(folder)}


def first_prompt(tokenizer, dataset, questions: Iterable[str], folder: Path | None = None) -> str:
    """The first prompt as text and as ids, in a line of JSON: what a template or a tokenizer gets wrong shows in it."""
    prompt = prompter(tokenizer, dataset, folder)
    text, ids = next((prompt(question) for question in questions), ("", ()))
    return json.dumps({"prompt": text, "ids": ids})


def encoder(tokenizer, dataset, folder: Path | None = None) -> Callable:
    """Problem -> prompt ids, each computed once; `folder` is the model's, whose chat template may be needed."""
    cache: dict[str, tuple[int, ...]] = {}
    prompt = prompter(tokenizer, dataset, folder)

    def encode(problem):
        if problem.id not in cache:
            _, cache[problem.id] = prompt(problem.question)
        return cache[problem.id]

    return encode


#: Rewards by `unfinished_reward` of responses that were cut or have no answer.
UNFINISHED = {"zero": 0.0, "minus_one": -1.0}


def rewarder(tokenizer, dataset, train) -> Callable:
    """Return the reward function (problem, response ids, finished) -> number, as `World.reward`.

    Deviation: the official code takes a response without an answer as unfinished (spec §2.1 item 3), which matters
    where that does not earn 0: key `unfinished_reward`, `minus_one`.
    """
    from spo import grading
    from spo.grading.verdicts import MISSING

    grader, unfinished = grading.GRADERS[dataset.grader], UNFINISHED.get(train.unfinished_reward)

    def reward(problem, response_ids, finished):
        if unfinished is not None and not finished:
            return unfinished
        verdict = grader.grade(problem.answer, tokenizer.decode(response_ids))
        return unfinished if unfinished is not None and verdict.reason == MISSING else grading.reward(verdict)

    return reward


def pieces(tokenizer) -> Callable:
    """Return a function of response ids that gives the text that each of them adds, as `World.pieces`.

    A token's text is what it adds to the token before it: some tokenizers write a blank only between tokens.
    """

    @functools.lru_cache(maxsize=1 << 18)
    def piece(before: int | None, token: int) -> str:
        if before is None:
            return tokenizer.decode([token])
        return tokenizer.decode([before, token])[len(tokenizer.decode([before])) :]

    return lambda ids: [piece(before, token) for before, token in zip([None, *ids], ids, strict=False)]
