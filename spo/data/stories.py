"""`stories`: word problems of a few steps of arithmetic, and worked solutions by pupils with systematic bugs.

A story follows one quantity: its owner gains and loses, then perhaps somebody else has so many more, or twice as many,
and the story goes on with theirs. Every step is one line of column work (`spo.data.arithmetic`). A pupil who makes a
mistake goes on from the wrong number, so the step that lost the answer is the question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from spo.data.arithmetic import BUGS, work
from spo.errors import UserError

NAMES = {
    "Ann": "she", "Bella": "she", "Dora": "she", "Fay": "she", "Gina": "she", "Ida": "she",
    "Ben": "he", "Carl": "he", "Emil": "he", "Hugo": "he", "Jack": "he", "Leo": "he",
}  # fmt: skip
OBJECT_FORM = {"she": "her", "he": "him"}

# Things, how one comes by more of them, how one loses them, how half of them go. {who} is the owner, {Other} a friend.
THEMES = {
    "shells": (
        ["{who} finds {n} more on the beach.", "The sea brings {n} more."],
        ["{who} drops {n} in the sand.", "A crab runs off with {n}."],
        ["The sea takes half of the shells."],
    ),
    "cookies": (
        ["{who} bakes {n} more.", "Grandma brings {n} more."],
        ["The dog eats {n} of them.", "{who} sells {n} at the fair."],
        ["The children eat half of the cookies."],
    ),
    "apples": (
        ["{who} picks {n} more from the tree.", "The wind brings down {n} more."],
        ["A goat eats {n} of them.", "{who} makes jam from {n}."],
        ["A horse eats half of the apples."],
    ),
    "coins": (
        ["{who} digs up {n} more in the garden.", "{who} earns {n} more at the fair."],
        ["A thief takes {n}.", "{who} spends {n} at the fair."],
        ["A king takes half of the coins."],
    ),
    "eggs": (
        ["The hens lay {n} more.", "{who} buys {n} more at the market."],
        ["A fox steals {n}.", "{who} breaks {n} on the way home."],
        ["{who} paints half of the eggs and sells those."],
    ),
    "cards": (
        ["{who} wins {n} more in a game.", "{who} buys {n} more at the market."],
        ["{who} loses {n} in a game.", "The wind takes {n} of them."],
        ["The rain ruins half of the cards."],
    ),
}
GAINS = ["{Other} gives {whom} {n} more."]
LOSSES = ["{who} gives {n} to {Other}."]
HALVES = ["{who} gives half of them to {Other}."]
STARTS = ["{who} has {n} {things}.", "{who} starts the day with {n} {things}."]
BAGS = ["{who} fills {k} bags with {n} {things} each.", "{who} has {k} boxes with {n} {things} each."]
MORE = ["{who} has {n} more {things} than {before}."]
FEWER = ["{who} has {n} fewer {things} than {before}."]
TWICE = ["{who} has twice as many {things} as {before}."]
TIMES = ["{who} has {k} times as many {things} as {before}."]
HALF = ["{who} has half as many {things} as {before}."]
MAGIC = ["A wizard turns each of them into {k}.", "{who} meets a wizard who turns each one into {k}."]
TOTAL = "How many {things} do {before} and {who} have together?"
DIFFERENCE = "How many more {things} does {most} have than {least}?"
LAST = "How many {things} does {who} have now?"


@dataclass(frozen=True)
class Options:
    """`options:` of the dataset."""

    steps: tuple[int, int] = (3, 5)
    """Fewest and most lines of working."""
    owners: int = 2
    """People whose things a story counts, at most: 1 or 2. Two make reading harder, and not calculating."""
    digits: int = 2
    """Digits of the numbers in the text; results stay below 4 * 10 ** digits."""
    bug_probability: float = 0.5
    """Share of pupils who have a bug, for each bug that `bugs` does not name."""
    bugs: dict[str, float] = field(default_factory=lambda: {"adds_for_times": 0.1, "adds_for_minus": 0.1})
    """Share of pupils for single bugs; names in `spo.data.arithmetic.BUGS`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        low, high = self.steps if len(self.steps) == 2 else (0, 0)
        if not 2 <= low <= high <= 12:
            raise UserError(f"options.steps {list(self.steps)}: give two numbers, 2 <= fewest <= most <= 12")
        if self.owners not in (1, 2):
            raise UserError(f"options.owners {self.owners}: must be 1 or 2")
        if not 2 <= self.digits <= 4:
            raise UserError(f"options.digits {self.digits}: must be 2 to 4")
        if unknown := sorted(set(self.bugs) - set(BUGS)):
            raise UserError(f"options.bugs: unknown bug {unknown[0]!r}; known are {', '.join(BUGS)}")
        if not all(0 <= share <= 1 for share in (self.bug_probability, *self.bugs.values())):
            raise UserError("options.bug_probability and options.bugs: shares must lie between 0 and 1")


@dataclass(frozen=True)
class Result:
    """The result of an earlier step."""

    step: int


@dataclass(frozen=True)
class Story:
    """A question, its answer, and the steps (sign, left, right) that lead there; operands are numbers or `Result`s."""

    question: str
    answer: str
    steps: tuple[tuple[str, int | Result, int | Result], ...]


def draw(rng: Random, options: Options) -> Story:
    """One story; its answer is computed beside the text with exact integers."""
    return _Teller(rng, options).tell()


def solve(story: Story, bugs: frozenset[str] = frozenset()) -> str:
    """The worked solution of a pupil with `bugs`, ending in `#### answer`; without bugs it is correct."""
    lines: list[str] = []
    results: list[int] = []
    for sign, *operands in story.steps:
        left, right = (results[item.step] if isinstance(item, Result) else item for item in operands)
        line, result = work(sign, left, right, bugs)
        lines.append(line)
        results.append(result)
    return "\n".join([*lines, f"#### {results[-1]}"])


def demonstrate(story: Story, rng: Random, options: Options) -> str:
    """The worked solution of a pupil drawn at random."""
    share = {bug: options.bugs.get(bug, options.bug_probability) for bug in BUGS}
    return solve(story, frozenset(bug for bug in BUGS if rng.random() < share[bug]))


class _Teller:
    """Tells one story: keeps who owns what now, writes a sentence and a step at a time."""

    def __init__(self, rng: Random, options: Options) -> None:
        self.rng, self.most = rng, 10**options.digits - 1
        self.count = rng.randint(*options.steps)
        people = rng.sample(list(NAMES), 4)
        self.who, self.heirs, self.others = people[0], people[1 : options.owners], people[2:]
        self.before: tuple[str, int, int | Result] | None = None  # owner, value and operand before the story moved on
        self.things = rng.choice(list(THEMES))
        self.sentences: list[str] = []
        self.steps: list[tuple] = []
        self.named = False  # whether a pronoun would be understood
        self.last = ""

    def tell(self) -> Story:
        rng = self.rng
        self.value: int = rng.randint(11, self.most)
        self.operand: int | Result = self.value
        if rng.random() < 0.25:
            k = rng.randint(2, 5)
            self.value = self.operand = rng.randint(11, 2 * self.most // k)
            self._say(BAGS, n=self.value, k=k)
            self._step("x", k)
        else:
            self._say(STARTS, n=self.value)
        while len(self.steps) < self.count - 1:
            self._event()
        self._end()
        return Story(" ".join(self.sentences), str(self.value), tuple(self.steps))

    def _event(self) -> None:
        """One sentence and step: more, fewer, times or half, of one's own or compared with the owner so far."""
        rng, value = self.rng, self.value
        gains, losses, halves = THEMES[self.things]
        kinds = ["+"] * (value <= 3 * self.most) + ["-"] * (value > 4) + ["x"] * (value <= self.most)
        kind = rng.choice(kinds * 2 + ["/"] * (value % 2 == 0 and value > 8))
        n = rng.randint(min(11, value // 2), min(self.most, value - 2)) if kind == "-" else rng.randint(11, self.most)
        k = rng.randint(2, 3 if value > self.most // 2 else 5)
        if self.heirs and rng.random() < 0.35:
            templates = {"+": MORE, "-": FEWER, "x": TWICE if k == 2 else TIMES, "/": HALF}[kind]
            self.before = (self.who, value, self.operand)
            self.who, self.named = self.heirs.pop(), False
            self._say(templates, n=n, k=k, before=self.before[0])
            self.named = False  # both people were just spoken of
        else:
            templates = {"+": gains * 2 + GAINS, "-": losses * 2 + LOSSES, "x": MAGIC, "/": halves + HALVES}[kind]
            self._say(templates, n=n, k=k)
        self._step(kind, {"x": k, "/": 2}.get(kind, n))

    def _end(self) -> None:
        """The question; when the story has two owners it asks, half of the time, for something of both."""
        if self.before and self.rng.random() < 0.5:
            before, value, operand = self.before
            fields = {"things": self.things, "before": before, "who": self.who}
            told = self.steps[-1][0] in "+-" and self.steps[-1][1] == operand  # the text says the difference itself
            if told or value == self.value or self.rng.random() < 0.5:
                self.sentences.append(TOTAL.format(**fields))
                self.steps.append(("+", operand, self.operand))
                self.value += value
                return
            ahead = self.value > value
            fields |= {"most": self.who if ahead else before, "least": before if ahead else self.who}
            self.sentences.append(DIFFERENCE.format(**fields))
            self.steps.append(("-", *((self.operand, operand) if ahead else (operand, self.operand))))
            self.value = abs(self.value - value)
            return
        self._event()
        self.sentences.append(LAST.format(things=self.things, who=self.who))

    def _step(self, sign: str, right: int) -> None:
        self.steps.append((sign, self.operand, right))
        value = self.value
        self.value = {"+": value + right, "-": value - right, "x": value * right, "/": value // 2}[sign]
        self.operand = Result(len(self.steps) - 1)

    def _say(self, templates: list[str], **fields: object) -> None:
        if self.before and not self.named:
            templates = [template for template in templates if "{who" in template]
        templates = [template for template in templates if template != self.last] or templates
        pronoun = NAMES[self.who]
        who, whom = (pronoun, OBJECT_FORM[pronoun]) if self.named else (self.who, self.who)
        template = self.last = self.rng.choice(templates)
        text = template.format(who=who, whom=whom, Other=self.rng.choice(self.others), things=self.things, **fields)
        self.named = self.named or "{who" in template
        self.sentences.append(text[0].upper() + text[1:])
