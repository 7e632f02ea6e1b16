"""Every prompt of a run, rendered when the workflow is read; what no trial may ask is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.variants import PromptSet
from grace.studies.asking import Message, StudyDesign
from grace.studies.stimuli import numbered_trials
from grace.studies.trials import Trial


def chats(
    study: StudyDesign, experiment: str, trial: Trial, prompts: PromptSet
) -> list[tuple[Message, ...]]:
    """The chats that one trial asks in one experiment. Raises `ConfigError`."""
    if experiment == "exp1":
        return [study.messages(trial, prompts)]
    return [query.messages for query in study.queries(trial, prompts)]


def _place(stimuli: Path, study: StudyDesign, index: int) -> str:
    return f"{stimuli}, row {numbered_trials(stimuli, study)[index][0]}"


def check_prompts(
    stimuli: Path,
    study: StudyDesign,
    experiments: Sequence[str],
    trials: Sequence[Trial],
    variants: Mapping[str, PromptSet],
) -> None:
    """Render what every trial asks in every variant.

    Raises `ConfigError` for a template that fails or asks nothing, with the row that it fails for,
    for one that asks two questions of a trial in the same words, and for two variants that are one:
    their answers would count twice.
    """
    for experiment in experiments:
        found: dict[str, str] = {}
        for variant, prompts in variants.items():
            asked = []
            for index, trial in enumerate(trials):
                try:
                    messages = chats(study, experiment, trial, prompts)
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
