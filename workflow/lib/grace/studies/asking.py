"""What a study asks: its trials, prompts and questions.

A study knows nothing of engines or Snakemake. How its answers are read stands in other modules
(`grace.studies.answers`, `grace.studies.distributions`), so that reading them differently asks
nothing anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from grace import seeds
from grace.digests import digest
from grace.places import located
from grace.prompts.completion import CompletionPrompts
from grace.prompts.example_bank import EXAMPLES
from grace.prompts.messages import Message, context
from grace.prompts.orders import OptionOrder, order_name
from grace.prompts.plain_text import is_blank, shortened
from grace.prompts.variants import PromptSet
from grace.prompts.wording import Turn
from grace.studies.declaration import (
    Continuation,
    Declaration,
    Options,
    QueryPart,
    ScoreQuery,
    filled,
)
from grace.studies.expressions import Expression, Patterns, TextTemplate
from grace.studies.trials import Trial, TrialError, TrialReader

EXPERIMENTS = ("exp1", "exp2")
#: Stands for an answer that is not there yet.
REPLY = "\u2026"
_NO_PATTERNS = Patterns({}, "options")


@dataclass(frozen=True)
class Query:
    """One prompt with a closed set of answer options; `lead` stands before each of them.

    `null_context` is the same prompt without the trial's content: what the model says whatever it
    is asked about. None where there is none: for options that differ by trial, for texts without a
    question, for auxiliary queries, and for a prompt that holds nothing of the trial.
    """

    name: str
    messages: tuple[Message, ...]
    options: tuple[str, ...]
    null_context: tuple[Message, ...] | None = None
    lead: str = ""

    def null(self) -> Query | None:
        """The query that measures the same options after the null context."""
        if self.null_context is None:
            return None
        return Query(self.name, self.null_context, self.options, lead=self.lead)


@dataclass(frozen=True)
class QueryForm:
    """One query of a declaration, for one combination of its `each`."""

    name: str
    entry: QueryPart
    factors: Mapping[str, Any]


def combinations(factors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of factors' values, the last factor changing fastest."""
    return [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]


def query_forms(declaration: Declaration) -> tuple[QueryForm, ...]:
    """Experiment 2's queries, in order."""
    scored = [
        QueryForm(filled(entry.name, factors), entry, factors)
        for entry in declaration.score
        for factors in combinations(entry.each)
    ]
    return (*scored, *(QueryForm(entry.name, entry, {}) for entry in declaration.continuations))


def is_auxiliary(form: QueryForm) -> bool:
    """Whether a query is no part of a trial's answer."""
    return isinstance(form.entry, ScoreQuery) and form.entry.auxiliary


def fixed_options(options: Options) -> tuple[str, ...] | None:
    """The options, where they are the same in every trial."""
    if options.texts is not None:
        return tuple(options.texts)
    if options.product is not None:
        text = TextTemplate(options.text or "", "options.text")
        return tuple(text.render(each, _NO_PATTERNS) for each in combinations(options.product))
    return None


class StudyDesign:
    """What one study asks. Raises `ConfigError` for a declaration that cannot be."""

    def __init__(
        self,
        name: str,
        folder: Path,
        declaration: Declaration,
        source: str,
        root: Path | None = None,
    ) -> None:
        self.name = name
        #: Where Grace lies, for a bundled study; its prompts may be in the user's folder instead.
        self.root = root
        #: The folder of study.yaml, and that file as messages name it.
        self.folder, self.source = folder, source
        self.declaration = declaration
        self.key_columns = tuple(declaration.stimuli.key)
        self.column_aliases: Mapping[str, str] = {
            alias: column
            for column, held in declaration.stimuli.columns.items()
            for alias in held.aliases
        }
        self.trial_reader = TrialReader(declaration.stimuli, f"{source}: stimuli")
        self.variables = {
            variable: Expression(text, f"{source}: variables.{variable}")
            for variable, text in declaration.variables.items()
        }
        self.query_forms = query_forms(declaration)
        #: Prompt templates by experiment.
        self.templates: Mapping[str, tuple[str, ...]] = {
            "exp1": (declaration.generate.template,) if declaration.generate else (),
            "exp2": tuple(dict.fromkeys(entry.template for entry in declaration.score)),
        }
        self._when = {
            form.name: Expression(form.entry.when, f"{source}: {place}.when")
            for place, form in _places(declaration, self.query_forms)
            if form.entry.when is not None
        }
        self._fixed = {form.name: fixed_options(form.entry.options) for form in self.query_forms}

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that it declares."""
        asked = {"exp1": self.declaration.generate is not None, "exp2": bool(self.query_forms)}
        return tuple(name for name in EXPERIMENTS if asked[name])

    @cached_property
    def closed_queries(self) -> frozenset[str]:
        """Queries with a question, which nothing but their options answers."""
        return frozenset(
            form.name for form in self.query_forms if isinstance(form.entry, ScoreQuery)
        )

    @cached_property
    def auxiliary_queries(self) -> frozenset[str]:
        """Queries that are asked beside a trial's own, for a theory."""
        return frozenset(form.name for form in self.query_forms if is_auxiliary(form))

    def seed_offset(self, experiment: str) -> int:
        """What is added to a replication's seed: declared, or from the study's name."""
        declared: int | None = getattr(self.declaration.seed_offset, experiment)
        return seeds.offset_of(self.name, experiment) if declared is None else declared

    @property
    def stimuli_file(self) -> Path:
        """The file of trials that the declaration names."""
        return self.beside(self.declaration.stimuli.file)

    @property
    def prompts_folder(self) -> Path:
        """The folder of prompt folders, one a wording."""
        return self.beside(self.declaration.prompts)

    def variant(self, name: str, prompting: str = "chat") -> PromptSet:
        """The templates of a variant. Raises `ConfigError` where the study has none.

        A study of continuations alone has no templates, and the same prompts in every variant.
        """
        folder = self._variant_folder(name)
        templates = {one for names in self.templates.values() for one in names}
        if prompting == CompletionPrompts.prompting:
            return CompletionPrompts(
                folder,
                self.name,
                templates,
                self.trial_columns(),
                self.declaration.variables,
                self._variant_folder,
            )
        return PromptSet(folder, needed=bool(templates), find=self._variant_folder)

    def variants(
        self, names: Iterable[str], trials: Sequence[Trial], prompting: str = "chat"
    ) -> list[PromptSet]:
        """The templates of variants, with the orders in which these trials list options.

        Raises `ConfigError`.
        """
        found = [self.variant(name, prompting) for name in names]
        for prompts in found:
            self.counterbalance(prompts, trials)
        return found

    def counterbalance(self, prompts: PromptSet, trials: Sequence[Trial]) -> None:
        """Give all trials the order of their options under a variant. Raises `ConfigError`."""
        prompts.counterbalance(self.name, self.key_columns, (trial.all() for trial in trials))

    def order(self, trial: Trial, prompts: PromptSet) -> OptionOrder | None:
        """In which order a trial's options are listed; None where a variant has but one."""
        return prompts.order(trial[name] for name in self.key_columns)

    def wording_facts(self, trial: Trial, prompts: PromptSet) -> dict[str, Any]:
        """What a record says of how a trial was worded; nothing where a variant has no properties.

        `variant_of` is the variant that it extends, else its own name; `few_shot` names the
        examples before the question, in order.
        """
        seen = prompts.seen(trial.all())
        few_shot = {"few_shot": list(seen[EXAMPLES])} if EXAMPLES in seen else {}
        if prompts.wording is None:
            return few_shot
        order = self.order(trial, prompts)
        return {
            **few_shot,
            "variant_of": prompts.wording.extends or prompts.variant,
            "system_message": "no" if prompts.wording.system is None else "yes",
            **({} if order is None else {"option_order": order_name(order)}),
        }

    def _variant_folder(self, name: str) -> Path:
        folder = self.prompts_folder / name
        if self.root is not None and folder.is_relative_to(self.root):
            folder = located(folder.relative_to(self.root), self.root)
        return folder

    def beside(self, path: str) -> Path:
        """A path of the declaration, which is relative to its folder."""
        return Path(os.path.normpath(self.folder / path))

    def input_columns(self) -> tuple[str, ...]:
        """The stimuli file's columns, in order."""
        return tuple(self.declaration.stimuli.columns)

    def trial_columns(self) -> tuple[str, ...]:
        """The columns of a trial, derived ones among them."""
        return (*self.input_columns(), *self.declaration.stimuli.derived)

    def trial(self, cells: Mapping[str, Any]) -> Trial:
        """A row of the stimuli. Raises `TrialError`."""
        trial = self.trial_reader.trial(cells)
        forms = self.forms_asked(trial)
        if self.query_forms and all(map(is_auxiliary, forms)):
            raise TrialError(["no query is asked of it: see `when` in study.yaml"])
        for form in forms:
            columns = form.entry.options.columns
            if columns is not None:
                _refuse_equal([str(trial[column]) for column in columns], columns)
        return trial

    def forms_asked(self, trial: Trial) -> tuple[QueryForm, ...]:
        """Those of experiment 2's queries that are asked of a trial."""
        if not self._when:
            return self.query_forms
        known, patterns = trial.all(), self.trial_reader.patterns
        return tuple(
            form
            for form in self.query_forms
            if form.name not in self._when or self._when[form.name].value(known, patterns)
        )

    def options(self, form: QueryForm, trial: Trial) -> tuple[str, ...]:
        """A query's options in a trial."""
        fixed = self._fixed[form.name]
        if fixed is not None:
            return fixed
        return tuple(str(trial[column]) for column in form.entry.options.columns or ())

    def values(self, trial: Trial) -> dict[str, Any]:
        """What templates see of a trial."""
        known, patterns = trial.all(), self.trial_reader.patterns
        return {name: each.value(known, patterns) for name, each in self.variables.items()}

    def turns(self, prompts: PromptSet) -> tuple[Turn, ...]:
        """Experiment 1's turns that the model answers: one, unless a variant has several."""
        (template,) = self.templates["exp1"]
        return prompts.asked(template)

    def messages(
        self, trial: Trial, prompts: PromptSet, replies: Sequence[str] = ()
    ) -> tuple[Message, ...]:
        """Experiment 1's chat messages, up to the turn after the model's `replies` so far."""
        (template,) = self.templates["exp1"]
        return prompts.render(template, self._seen_by_templates(trial, prompts), replies)

    def whole_chat(self, trial: Trial, prompts: PromptSet) -> tuple[Message, ...]:
        """Experiment 1's chat up to its last turn, with `REPLY` for what the model answers before.

        It tells trials' prompts apart, whatever is answered.
        """
        return self.messages(trial, prompts, [REPLY] * (len(self.turns(prompts)) - 1))

    def _seen_by_templates(self, trial: Trial, prompts: PromptSet) -> dict[str, Any]:
        order = self.order(trial, prompts) or {}
        return {**self.values(trial), **order, **prompts.seen(trial.all())}

    def queries(self, trial: Trial, prompts: PromptSet) -> tuple[Query, ...]:
        """Experiment 2's queries."""
        values = self._seen_by_templates(trial, prompts)
        return tuple(
            Query(
                form.name,
                messages := self._asked(form, trial, values, prompts),
                self.options(form, trial),
                self._null_context(form, messages, values, prompts),
                # Texts without a question stand as they are.
                prompts.lead if isinstance(form.entry, ScoreQuery) else "",
            )
            for form in self.forms_asked(trial)
        )

    def _null_context(
        self, form: QueryForm, messages: tuple[Message, ...], values: Mapping[str, Any],
        prompts: PromptSet,
    ) -> tuple[Message, ...] | None:  # fmt: skip
        """As `Query.null_context`. What stands in the study's `variables` is a trial's content."""
        entry = form.entry
        if not isinstance(entry, ScoreQuery) or entry.auxiliary or self._fixed[form.name] is None:
            return None
        found = prompts.null_context(
            entry.template, {**values, **form.factors}, frozenset(self.variables)
        )
        return None if found == messages else found

    def _asked(
        self, form: QueryForm, trial: Trial, values: Mapping[str, Any], prompts: PromptSet
    ) -> tuple[Message, ...]:
        match form.entry:
            case ScoreQuery(template=template):
                return prompts.render(template, {**values, **form.factors})
            case Continuation(context=column):
                return context("" if column is None else str(trial[column]))
        raise AssertionError(f"{form.name} is neither scored nor continued")

    @cached_property
    def digest(self) -> str:
        """Digest of the whole declaration."""
        return digest(self.declaration.model_dump(mode="json"))

    @cached_property
    def _seen(self) -> dict[str, Any]:
        """The columns, and each variable with all that it is computed from."""
        stimuli = self.declaration.stimuli
        return {
            "columns": {name: column.type for name, column in stimuli.columns.items()},
            "variables": {
                name: [each.source, self._behind(each)] for name, each in self.variables.items()
            },
        }

    def _behind(self, expression: Expression) -> dict[str, Any]:
        """The patterns and derived columns that an expression uses, and what those use."""
        stimuli, reader = self.declaration.stimuli, self.trial_reader
        found: dict[str, Any] = {}
        pending = [expression]
        while pending:
            current = pending.pop()
            patterns = set(current.patterns)
            for name in current.names & (stimuli.derived.keys() - found.keys()):
                found[name] = stimuli.derived[name].value or stimuli.derived[name].of
                pending.append(reader.derivations[name].value)
                patterns |= {f"{name} {label}" for label in stimuli.derived[name].classes or {}}
            for name in patterns:
                found[f"patterns.{name}"] = reader.patterns.resolved(name)
                pending += reader.patterns.expressions(name)
        return found

    def asking_digest(self, experiment: str) -> str:
        """Digest of all in the declaration that decides what the experiment asks.

        Trials and templates count by their own contents, elsewhere; conditions only refuse rows.
        """
        declared = self.declaration
        asked: Any = None
        if experiment == "exp1":
            asked = declared.generate and declared.generate.template
        else:
            asked = [
                [form.name, dict(form.factors), _asking_part(form.entry),
                 form.entry.options.model_dump(exclude_none=True)]
                for form in self.query_forms
            ]  # fmt: skip
        return digest({**self._seen, "asked": asked})


def _places(declaration: Declaration, forms: tuple[QueryForm, ...]) -> list[tuple[str, QueryForm]]:
    """Each query with the place of its entry in the declaration."""
    entries: list[tuple[str, QueryPart]] = [
        *((f"score.{number}", entry) for number, entry in enumerate(declaration.score)),
        *((f"continuations.{n}", entry) for n, entry in enumerate(declaration.continuations)),
    ]
    return [(place, form) for place, entry in entries for form in forms if form.entry is entry]


def _asking_part(entry: QueryPart) -> Any:
    """What of a query's entry decides what is asked, beside its options."""
    part = (
        entry.template
        if isinstance(entry, ScoreQuery)
        else {"context": getattr(entry, "context", None)}
    )
    return part if entry.when is None else [part, entry.when]


def _refuse_equal(options: list[str], columns: list[str]) -> None:
    for index, option in enumerate(options):
        if is_blank(option):
            raise TrialError([f"{columns[index]} is {shortened(option)}: an option must be a text"])
        if option in options[:index]:
            other = columns[options.index(option)]
            raise TrialError(
                [f"{columns[index]} and {other} are both {shortened(option)}: options must differ"]
            )
