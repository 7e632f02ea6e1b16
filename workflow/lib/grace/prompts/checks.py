"""Every prompt of a run, rendered when the workflow is read; what no trial may ask is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.messages import Message, bare_context
from grace.prompts.variants import PromptSet
from grace.prompts.wording import FILE
from grace.studies.asking import Query, StudyDesign
from grace.studies.stimuli import numbered_trials
from grace.studies.trials import Trial


def questions(
    study: StudyDesign, experiment: str, trial: Trial, prompts: PromptSet
) -> list[list[Message]]:
    """What one trial asks in one experiment. Raises `ConfigError`."""
    if experiment == "exp1":
        return [list(study.whole_chat(trial, prompts))]
    return [question(query) for query in study.queries(trial, prompts)]


def question(query: Query) -> list[Message]:
    """What tells a query from others: its chat; of a bare context, its options, too.

    Many trials may have the same context, such as none.
    """
    if bare_context(query.messages) is None:
        return list(query.messages)
    options = [{"role": "option", "content": option} for option in query.options]
    return [*query.messages, *options]


def _place(stimuli: Path, study: StudyDesign, index: int) -> str:
    return f"{stimuli}, row {numbered_trials(stimuli, study)[index][0]}"


def _check_turns(study: StudyDesign, prompts: PromptSet, experiments: Sequence[str]) -> None:
    """Raise `ConfigError` for turns that the study cannot read or score."""
    place = prompts.folder / FILE
    if "exp1" in experiments and study.declaration.generate is not None:
        names = [turn.name for turn in study.turns(prompts)]
        for reading in study.declaration.generate.read:
            if len(names) > 1 and reading.turn is not None and reading.turn not in names:
                raise ConfigError(
                    f"{place}: turns.{study.templates['exp1'][0]}: {study.name} reads the"
                    f" {reading.what} from the turn '{reading.turn}', which is not among"
                    f" {', '.join(map(str, names))}. Name a turn so, or change `turn` in"
                    f" {study.source}."
                )
        for name in names:
            if len(names) > 1 and f"turn_{name}" in study.trial_columns():
                raise ConfigError(
                    f"{place}: turns.{study.templates['exp1'][0]}: {study.name} has a column"
                    f" 'turn_{name}' already. Name the turn '{name}' otherwise."
                )
    for template in study.templates["exp2"] if "exp2" in experiments else ():
        if len(prompts.asked(template)) > 1:
            raise ConfigError(
                f"{place}: turns.{template}: experiment 2 scores the last turn, and no model"
                " answers those before it. Give each of them a `reply`."
            )


def check_prompts(
    stimuli: Path,
    study: StudyDesign,
    experiments: Sequence[str],
    trials: Sequence[Trial],
    variants: Mapping[str, PromptSet],
) -> None:
    """Render what every trial asks in every variant.

    Raises `ConfigError` for turns that do not fit the study, for a template that fails or asks
    nothing, with the row that it fails for, for one that asks two questions of a trial in the same
    words, and for two variants that are one: their answers would count twice.
    """
    for prompts in variants.values():
        _check_turns(study, prompts, experiments)
    for experiment in experiments:
        found: dict[str, str] = {}
        for variant, prompts in variants.items():
            asked = []
            for index, trial in enumerate(trials):
                try:
                    messages = questions(study, experiment, trial, prompts)
                except ConfigError as error:
                    where = _place(stimuli, study, index)
                    raise ConfigError(f"{error} (for {where})") from None
                if len({digest(chat) for chat in messages}) < len(messages):
                    raise ConfigError(
                        f"{prompts.folder}: two questions of {study.name}_{experiment} are the same"
                        f" for one trial ({_place(stimuli, study, index)}). Put into the template"
                        " what tells them apart, such as {{ state }}."
                    )
                if len(variants) > 1:
                    asked.append(digest(messages))
            found[variant] = digest(asked)
        for one, other in combinations(found, 2):
            if found[one] == found[other]:
                raise ConfigError(
                    f"config: `variants` names {one} and {other}, whose prompts for"
                    f" {study.name}_{experiment} are the same, word for word: every answer would"
                    " count twice. Leave one of them out, change its templates, or leave out what"
                    " they have in common with `studies` and `experiments`."
                )
