"""The simulated participant: how likely each answer to each of the studies' prompts is.

pico is trained on these distributions, and a run of the workflow on pico must give them back;
`grace.pico.recovery` measures how well it does.

Study 1, where a speaker has looked at `access` things and says that `observe` have the property.
P(s) is the RSA listener's belief in s = 0, 1, 2, 3 (studies/study1/theory.py), base rate 0.62.

- exp2, "exactly s, in percent": 10 x Binomial(10, P(s)) %, so its mean is 100 P(s) %.
- exp2, "does the speaker know exactly": yes with probability .95, .20, .10 for access 3, 2, 1.
- exp1: the initial answer is Binomial(3, 0.62); the four percentages are 10 x Multinomial(10, P),
  so each is distributed as in exp2 and they always sum to 100; knowledge is as in exp2. The
  three are independent of each other.

Study 2: both experiments put the same question; the answer is drawn from the polite speaker
(studies/study2/theory.py) of this goal and state, over eight utterances without a final period.

An answer is described as a `Process`: given the parts of it that have been said, the distribution
of the next part, until nothing is left to say. A closed answer set is a process of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import comb
from pathlib import Path

from grace.pico.trained_on import PERCENT_OPTIONS, STATES, UTTERANCES, theory
from grace.studies.trials import Trial

#: Text of the next part: probability. Probabilities sum to 1; zeros are left out.
Part = dict[str, float]
#: The next part, given the parts so far; empty at the end of the answer.
Process = Callable[[tuple[str, ...]], Part]

#: Probability of "yes, the speaker knows exactly", by access.
KNOWS = {1: 0.10, 2: 0.20, 3: 0.95}
#: A percentage is this many tenths at most.
TENTHS = 10

_REFERENCE = Path(__file__).parents[4] / "resources" / "reference"
_HEAD = "Initial Answer: "
#: What stands before each of the four percentages, and after the last.
_LABELS = ("\nProbabilities: 0: ", "%, 1: ", "%, 2: ", "%, 3: ", "%\nKnowledge:")


def binomial(trials: int, probability: float) -> list[float]:
    """P(0), ..., P(trials)."""
    return [
        comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
        for k in range(trials + 1)
    ]


@cache
def beliefs(access: int, observe: int) -> tuple[float, ...]:
    """The RSA listener's P(s) for s = 0, 1, 2, 3."""
    return tuple(float(p) for p in theory("study1").listener(access, observe))


def bet(access: int, observe: int, state: int) -> Part:
    """Study 1: distribution over 0%, 10%, ..., 100% that exactly `state` have the property."""
    probability = beliefs(access, observe)[state]
    return _possible(dict(zip(PERCENT_OPTIONS, binomial(TENTHS, probability), strict=True)))


def knowledge(access: int) -> Part:
    """Study 1: does the speaker know exactly how many?"""
    return {"yes": KNOWS[access], "no": 1 - KNOWS[access]}


def initial_answer() -> Part:
    """Study 1: the guess before the speaker has said anything."""
    return {str(k): float(p) for k, p in enumerate(theory("study1").prior())}


def tenths(probabilities: Sequence[float], so_far: Sequence[int]) -> dict[int, float]:
    """The next count of a Multinomial(10, probabilities), given the counts before it."""
    left = TENTHS - sum(so_far)
    if len(so_far) == len(probabilities) - 1:
        return {left: 1.0}
    rest = sum(probabilities[len(so_far) :])
    share = probabilities[len(so_far)] / rest if rest > 0 else 0.0
    return {k: p for k, p in enumerate(binomial(left, min(1.0, share))) if p > 0}


@cache
def _speaker(goal: str) -> dict[tuple[int, str, str], float]:
    polite = theory("study2")
    cells: dict[tuple[int, str, str], float] = polite.cells(
        goal,
        lexicon=polite.read_lexicon(_REFERENCE / "politeness_lexicon.csv"),
        weights=polite.read_weights(_REFERENCE / "politeness_weights.csv"),
    )
    return cells


def utterance(goal: str, state: int) -> Part:
    """Study 2: distribution over the eight utterances."""
    cells = _speaker(goal)
    return _possible(
        {text: cells[state, frame, word] for text, (frame, word) in UTTERANCES.items()}
    )


def study1_distributions(trial: Trial) -> dict[str, Part]:
    """Experiment 2's answer distributions, by query."""
    states = {f"state{s}": bet(trial["access"], trial["observe"], s) for s in STATES}
    return {**states, "knowledge": knowledge(trial["access"])}


def study2_distributions(trial: Trial) -> dict[str, Part]:
    """Experiment 2's answer distribution, by query; experiment 1's is the same."""
    return {"utterance": utterance(trial["Goal_simplified"], trial["State_number"])}


def closed(options: Mapping[str, float]) -> Process:
    """The process of one answer out of a closed set."""
    return lambda said: {} if said else dict(options)


def study1_answer(trial: Trial) -> Process:
    """Experiment 1's answer of study 1, in the form that its prompt asks for."""
    probabilities = beliefs(trial["access"], trial["observe"])

    def next_part(said: tuple[str, ...]) -> Part:
        step = len(said)
        if step == 0:
            return {_HEAD: 1.0}
        if step == 1:
            return {k + _LABELS[0]: p for k, p in initial_answer().items()}
        if step <= 5:
            so_far = [_count(text) for text in said[2:]]
            label = _LABELS[step - 1]
            return {f"{10 * count}{label}": p for count, p in tenths(probabilities, so_far).items()}
        if step == 6:
            return {f" {word}": p for word, p in knowledge(trial["access"]).items()}
        return {}

    return next_part


def study2_answer(trial: Trial) -> Process:
    """Experiment 1's answer of study 2."""
    return closed(utterance(trial["Goal_simplified"], trial["State_number"]))


def probability(process: Process, parts: Sequence[str]) -> float:
    """How likely the process is to say exactly these parts and then end."""
    product = 1.0
    for step, part in enumerate(parts):
        product *= process(tuple(parts[:step])).get(part, 0.0)
    return 0.0 if process(tuple(parts)) else product


def _count(part: str) -> int:
    """How many tenths a percentage part such as `30%, 1: ` stands for."""
    return int(part.partition("%")[0]) // 10


def _possible(options: Mapping[str, float]) -> Part:
    return {text: p for text, p in options.items() if p > 0}
