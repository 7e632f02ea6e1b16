"""The two bundled studies' questions as pico-base learns them, with simulated answers.

Asked as recipes' bases are (config/prompts/seed/completion), over stories of pico's grammars, of
which no sentence is in a file of stimuli; answers are drawn from pico's simulated people.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from grace.pico import paraphrases, simulator
from grace.pico.settings import TRAINED_ON
from grace.pico.trained_on import PERCENT_OPTIONS, study, theory
from grace.prompts.completion import CompletionPrompts
from grace.studies.trials import Trial

APART = "\n\n"
_STORIES = {"study1": paraphrases.study1_trial, "study2": paraphrases.study2_trial}
_ANSWERS = {"study1": simulator.study1_answer, "study2": simulator.study2_answer}
#: How likely each form of a study's questions is: the free answer of experiment 1, or the options
#: of one kind of experiment 2's queries.
_FREE = "free"
_FORMS = {
    "study1": {_FREE: 0.4, "state": 0.3, "knowledge": 0.15, "prior": 0.15},
    "study2": {_FREE: 0.5, "utterance": 0.5},
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

    def shipped(self, rng: random.Random) -> tuple[str, str]:
        """A question as a run asks it, after all of the bank's examples, and an answer."""
        return self._asked(*self._form(rng), rng)

    def draw(self, rng: random.Random, most_examples: int) -> tuple[str, str]:
        """The same after up to so many of the examples."""
        text, answer = self.shipped(rng)
        *examples, question = text.split(APART)
        kept = rng.sample(examples, min(len(examples), rng.randint(0, most_examples)))
        return APART.join([*kept, question]), answer

    def series(self, rng: random.Random, number: int) -> list[tuple[str, str]]:
        """Questions of one form about so many stories, each with an answer."""
        name, form = self._form(rng)
        found = []
        for _ in range(number):
            text, answer = self._asked(name, form, rng)
            found.append((text.split(APART)[-1], answer))
        return found

    def _form(self, rng: random.Random) -> tuple[str, str]:
        name = rng.choice(TRAINED_ON)
        (form,) = rng.choices(list(_FORMS[name]), list(_FORMS[name].values()))
        return name, form

    def _asked(self, name: str, form: str, rng: random.Random) -> tuple[str, str]:
        """A question of a form after all examples, and an answer with what stands before it."""
        prompts, asked, trial = self._prompts[name], study(name), self._trial(name, rng)
        if form == _FREE:
            text = asked.messages(trial, prompts)[0]["content"]
            answer = _said(_ANSWERS[name](trial), rng).strip()
            # Study 1's begins on a line of its own, every other on that of `Answer:`.
            return text, f"\n{answer}" if name == "study1" else f" {answer}"
        query = rng.choice([one for one in asked.queries(trial, prompts) if form in one.name])
        shares = _shares(name, query.name, trial)
        (answer,) = rng.choices(list(shares), list(shares.values()))
        return query.messages[0]["content"], f"{query.lead}{answer}"

    def texts(self, rng: random.Random, number: int) -> Iterator[str]:
        """Questions with all their examples and an answer each, and more of the grammars' words."""
        for _ in range(number):
            yield "".join(self.draw(rng, 8))
            yield from paraphrases.texts(rng, 10)


def _shares(name: str, query: str, trial: Trial) -> simulator.Part:
    """How simulated people answer a query of experiment 2."""
    if name == "study2":
        return simulator.study2_distributions(trial)[query]
    if query.startswith("prior"):
        # As the other bets: tenths, drawn by the belief's share.
        belief = float(theory(name).prior()[int(query.removeprefix("prior"))])
        shares = simulator.binomial(simulator.TENTHS, belief)
        return dict(zip(PERCENT_OPTIONS, shares, strict=True))
    return simulator.study1_distributions(trial)[query]


def _said(process: simulator.Process, rng: random.Random) -> str:
    said: tuple[str, ...] = ()
    while part := process(said):
        said += tuple(rng.choices(list(part), list(part.values())))
    return "".join(said)
