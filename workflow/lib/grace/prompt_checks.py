"""Every prompt of a run, rendered before the first request; what no trial may ask is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from grace.chat import ChatTokenizer, ControlTokenError
from grace.digests import digest
from grace.errors import ConfigError, StimuliError
from grace.experiments import Asked
from grace.prompts import PromptSet
from grace.stimuli import numbered_trials
from grace.studies import Study, Trial
from grace.studies.base import Message


def chats(
    study: Study, experiment: str, trial: Trial, prompts: PromptSet
) -> list[tuple[Message, ...]]:
    """The chats that one trial asks in one experiment. Raises `ConfigError`."""
    if experiment == "exp1":
        return [study.messages(trial, prompts)]
    return [query.messages for query in study.queries(trial, prompts)]


def _place(stimuli: Path, study: Study, index: int) -> str:
    return f"{stimuli}, row {numbered_trials(stimuli, study)[index][0]}"


def check_prompts(
    stimuli: Path,
    study: Study,
    experiments: Sequence[str],
    trials: Sequence[Trial],
    wordings: Mapping[str, PromptSet],
) -> None:
    """Render what every trial asks in every variant.

    Raises `ConfigError` for a template that fails or asks nothing, with the row that it fails for,
    for one that asks two questions of a trial in the same words, and for two variants that are one:
    their answers would count twice.
    """
    for experiment in experiments:
        found: dict[str, str] = {}
        for variant, prompts in wordings.items():
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
                if len(wordings) > 1:
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


def check_control_tokens(
    stimuli: Path,
    study: Study,
    experiment: str,
    items: Sequence[Asked],
    tokenizer: ChatTokenizer,
) -> None:
    """Tokenise all that is going to be asked, as it is going to be.

    Raises `StimuliError` where the tokeniser finds a control token in a trial's text, with its row
    and column, and what else `ChatTokenizer.render` raises.
    """
    known: set[tuple[str, ...]] = set()
    for item in items:
        for messages in chats(study, experiment, item.trial, item.prompts):
            texts = tuple(message["content"] for message in messages)
            if texts in known:
                continue
            known.add(texts)
            try:
                tokenizer.render(messages)
            except ControlTokenError as error:
                where = _place(stimuli, study, item.trial_index)
                columns = ", ".join(_columns(item.trial, error.token)) or (
                    f"variant {item.prompts.variant}, {study.name}_{experiment}"
                )
                raise StimuliError(f"{where}, {columns}: {error}") from None


def _columns(trial: Trial, token: str) -> Iterator[str]:
    return (name for name, value in trial.row().items() if token in str(value))
