"""The two bundled studies' questions as pico-base learns them, with simulated answers.

Asked as recipes' bases are (config/prompts/seed/completion), over stories of pico's grammars, of
which no sentence is in a file of stimuli; answers are drawn from pico's simulated people.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from grace.pico import paraphrases, simulator
from grace.pico.settings import TRAINED_ON
from grace.pico.trained_on import study
from grace.prompts.completion import CompletionPrompts
from grace.studies.trials import Trial

APART = "\n\n"
_STORIES = {"study1": paraphrases.study1_trial, "study2": paraphrases.study2_trial}
_ANSWERS = {"study1": simulator.study1_answer, "study2": simulator.study2_answer}
_DISTRIBUTIONS = {
    "study1": simulator.study1_distributions,
    "study2": simulator.study2_distributions,
}


class Questions:
    """Draws questions of both studies."""

    def __init__(self, variant: str = "seed") -> None:
        self._prompts: dict[str, CompletionPrompts] = {}
        for name in TRAINED_ON:
            prompts = study(name).variant(variant, CompletionPrompts.prompting)
            assert isinstance(prompts, CompletionPrompts)
            self._prompts[name] = prompts

    def _trial(self, name: str, rng: random.Random) -> Trial:
        bank = self._prompts[name].bank
        assert bank is not None
        taken = {example.item for example in bank.examples}
        while True:
            one = _STORIES[name](rng)
            if str(one.all()[bank.item]) not in taken:
                return one

    def draw(self, rng: random.Random, most_examples: int) -> tuple[str, str]:
        """A question and an answer to it, after up to so many of the bank's examples."""
        name = rng.choice(TRAINED_ON)
        prompts, asked, trial = self._prompts[name], study(name), self._trial(name, rng)
        if rng.random() < 0.4:
            text = asked.messages(trial, prompts)[0]["content"]
            process = _ANSWERS[name](trial)
            answer = _said(process, rng).strip()
        else:
            options = _DISTRIBUTIONS[name](trial)
            closed = [one for one in asked.queries(trial, prompts) if one.name in options]
            query = rng.choice(closed)
            text = query.messages[0]["content"]
            shares = options[query.name]
            (answer,) = rng.choices(list(shares), list(shares.values()))
        *examples, question = text.split(APART)
        kept = rng.sample(examples, min(len(examples), rng.randint(0, most_examples)))
        # Study 1's free answer begins on a line of its own, every other on that of `Answer:`.
        lead = "\n" if answer.startswith("Initial") else " "
        return APART.join([*kept, question]), f"{lead}{answer}"

    def texts(self, rng: random.Random, number: int) -> Iterator[str]:
        """Questions with all their examples and an answer each, and more of the grammars' words."""
        for _ in range(number):
            yield "".join(self.draw(rng, 8))
            yield from paraphrases.texts(rng, 10)


def _said(process: simulator.Process, rng: random.Random) -> str:
    said: tuple[str, ...] = ()
    while part := process(said):
        said += tuple(rng.choices(list(part), list(part.values())))
    return "".join(said)
