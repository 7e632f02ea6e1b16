"""What experiment 2 asks of every system: queries of study 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.models import ROOT
from grace.engines.base import Score, ScoreRequest
from grace.errors import GraceError
from grace.experiments.trials import Run, TrialPrompt, prompt_id, trial_prompts
from grace.models.chat import ChatTokenizer, Prompt
from grace.prompts.variants import PromptSet
from grace.scoring.joining import plan_query
from grace.settings.config import ModelEntry
from grace.studies.asking import Query, StudyDesign
from grace.studies.catalogue import bundled
from grace.studies.stimuli import read_trials

#: By query, options in order: token ids of prompt and option, and the option's log-probability.
Answers = dict[str, list[tuple[tuple[int, ...], float]]]

#: How far an option's log-probability may be off, by dtype. bfloat16 keeps 8 bits of each value.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1.0}


@dataclass(frozen=True)
class Asking:
    """One query of one trial."""

    key: str
    trial: str
    query: Query


class Workload:
    """Study 1, of which `few` trials with distinct prompts are asked option by option.

    `most` cuts the whole study short.
    """

    def __init__(self, entry: ModelEntry, tokenizer: ChatTokenizer, few: int, most: int | None):
        self.tokenizer = tokenizer
        self.study = _of_trials(bundled(ROOT, "study1")["study1"])
        self.run = Run("bench", entry.name, self.study, "exp2", 0, 1000, True)
        rows = read_trials(ROOT / "resources/stimuli/study1.csv", self.study, None)
        everything = trial_prompts(self.run, rows, [PromptSet(ROOT / "config/prompts/seed")])
        self.items = everything[:most]
        distinct: dict[str, TrialPrompt] = {}
        for item in self.items:
            queries = self.study.queries(item.trial, item.prompts)
            distinct.setdefault(prompt_id([query.messages for query in queries]), item)
        self.few = list(distinct.values())[:few]

    def asking(self, trials: int | None = None) -> Iterator[Asking]:
        """Every query of the few trials, or of the first `trials` of them."""
        for item in self.few[:trials]:
            for query in self.study.queries(item.trial, item.prompts):
                yield Asking(f"{item.position} {query.name}", str(item.position), query)

    def render(self, query: Query) -> Prompt:
        return self.tokenizer.render(query.messages)

    def request(self, asking: Asking, *, grouped: bool, ends: bool = False) -> ScoreRequest:
        """As Grace's engines are asked, with `ends` for the ends of options too; tokenised here."""
        prompt = self.render(asking.query)
        plan = plan_query(
            self.tokenizer.continuing(prompt), prompt.text, prompt.token_ids, asking.query.options
        )
        return ScoreRequest(
            asking.key,
            plan.prompt_token_ids,
            plan.option_token_ids,
            self.tokenizer.terminator_ids if ends else (),
            group=asking.trial if grouped else None,
        )


def _of_trials(study: StudyDesign) -> StudyDesign:
    """Without what is asked once an item: every trial has the same number of options then."""
    asked = [query for query in study.declaration.score if not query.auxiliary]
    declaration = study.declaration.model_copy(update={"score": asked})
    return StudyDesign(study.name, study.folder, declaration, study.source, study.root)


def answers_of_scores(requests: list[ScoreRequest], scores: list[Score]) -> Answers:
    """What Grace's engines answered. Raises `GraceError` where a score failed."""
    by_key = {score.key: score for score in scores}
    found: Answers = {}
    for request in requests:
        score = by_key[request.key]
        if score.token_logprobs is None:
            raise GraceError(f"bench: {request.key} was not measured: {score.error}")
        found[request.key] = [
            (request.prompt_token_ids + ids, sum(values))
            for ids, values in zip(request.continuations, score.token_logprobs, strict=True)
        ]
    return found


def answers_of_records(records: list[dict[str, Any]]) -> Answers:
    """What records of experiment 2 hold."""
    return {
        f"{record['trial_order_in_replication']} {query['name']}": [
            ((*query["prompt_token_ids"], *option["token_ids"]), option["logprob"])
            for option in query["options"]
        ]
        for record in records
        for query in record["queries"]
    }


class Reference:
    """The answers that every system has to give."""

    def __init__(self, answers: Answers, tolerance: float):
        self._answers = answers
        self._tolerance = tolerance
        #: By system: the largest difference of a log-probability so far.
        self.differences: dict[str, float] = {}

    def check(self, system: str, found: Answers) -> int:
        """How many options were answered.

        Raises `GraceError` where a query is missing, token ids differ, or a log-probability is
        further off than the tolerance.
        """
        largest = self.differences.get(system, 0.0)
        for key, expected in self._answers.items():
            options = found.get(key, [])
            if [ids for ids, _ in options] != [ids for ids, _ in expected]:
                raise GraceError(f"bench: '{system}' read other token ids for query {key}.")
            for (_, value), (_, other) in zip(options, expected, strict=True):
                if not abs(value - other) <= self._tolerance:
                    raise GraceError(
                        f"bench: '{system}' measured {value:.6g} where one plain pass gives"
                        f" {other:.6g}, in query {key}."
                    )
                largest = max(largest, abs(value - other))
        self.differences[system] = largest
        return sum(map(len, found.values()))
