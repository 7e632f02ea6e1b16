"""What a project asks, rendered, tokenised and planned once for all that count it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from grace.errors import EngineError
from grace.experiments.measurement import plan_scoring
from grace.experiments.trials import TrialPrompt
from grace.forecast.requests import (
    Rendered,
    Requests,
    Tokens,
    generation_requests,
    items_of,
    rendered,
    scoring_requests,
    tokens_of,
)
from grace.forecast.throughput import Work
from grace.forecast.workload import planned_work
from grace.models.chat import ChatTokenizer, tokenizer_of
from grace.settings.project import Project


@dataclass(frozen=True)
class PlannedScoring:
    """Experiment 2 of a study as its planner has it: tokens to read, and the work."""

    tokens: Tokens
    work: Work


class RequestCounts:
    """What the models of one project are asked. Replications share it: only their order differs."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._items: dict[tuple[str, str, str, int | None], list[TrialPrompt]] = {}
        self._rendered: dict[tuple[str, str, str, int | None], Rendered] = {}
        self._requests: dict[tuple[str, str, str], Requests] = {}
        self._tokenizers: dict[str, ChatTokenizer | None] = {}
        self._planned: dict[tuple[str, str], PlannedScoring] = {}

    def items(
        self, model: str, study: str, experiment: str, limit: int | None = None
    ) -> list[TrialPrompt]:
        """As `items_of`; the same for all models of one wording."""
        key = (self._project.models[model].wording, study, experiment, limit)
        if key not in self._items:
            self._items[key] = items_of(self._project, model, study, experiment, limit)
        return self._items[key]

    def rendered(
        self, model: str, study: str, experiment: str, limit: int | None = None
    ) -> Rendered:
        """The same, each rendered once."""
        key = (self._project.models[model].wording, study, experiment, limit)
        if key not in self._rendered:
            items = self.items(model, study, experiment, limit)
            self._rendered[key] = rendered(self._project.studies[study], items, experiment)
        return self._rendered[key]

    def requests(self, model: str, study: str, experiment: str) -> Requests:
        """How much an experiment asks; no tokeniser is needed for that."""
        project = self._project
        key = (project.models[model].wording, study, experiment)
        if key not in self._requests:
            items = self.rendered(model, study, experiment)
            self._requests[key] = (
                generation_requests(items, project.config.generation)
                if experiment == "exp1"
                else scoring_requests(items)
            )
        return self._requests[key]

    def tokenizer(self, model: str) -> ChatTokenizer | None:
        """The model's own; None where it is not on this machine."""
        if model not in self._tokenizers:
            found = None
            with contextlib.suppress(EngineError):
                found = tokenizer_of(model, self._project.models[model], self._project.root)
            self._tokenizers[model] = found
        return self._tokenizers[model]

    def scoring(self, model: str, study: str) -> PlannedScoring | None:
        """Experiment 2, planned with the model's tokeniser; None where that is not here."""
        tokenizer = self.tokenizer(model)
        if tokenizer is None:
            return None
        if (model, study) not in self._planned:
            project = self._project
            plan = plan_scoring(
                project.studies[study], self.items(model, study, "exp2"), tokenizer,
                project.config.scoring.surface_forms,
                project.terminators_of(model),
            )  # fmt: skip
            served = project.models[model].engine_spec.runs_server
            self._planned[model, study] = PlannedScoring(
                tokens_of(plan), planned_work(plan, served=served)
            )
        return self._planned[model, study]
