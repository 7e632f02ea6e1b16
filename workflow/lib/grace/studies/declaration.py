"""A study's declaration, `study.yaml`, key by key: what is asked, and how answers are read.

What is analysed by what is in `grace.studies.analysis_parts`. `python -m grace.schemas` makes
workflow/schemas/study.schema.json of these models, for editors, and docs/study_reference.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictStr,
    model_validator,
)

from grace.studies.analysis_parts import (
    Analysis,
    Contrast,
    DeclarationPart,
    Figure,
    Labels,
    MixedModel,
    People,
    ReportSection,
    Response,
    Theory,
    Value,
)
from grace.studies.expressions import IDENTIFIER, RESERVED

#: Columns that tables have of their own: no column of a study may be called so.
TABLE_COLUMNS = frozenset(
    """
    answer_id experiment_seed extraction_agreement extraction_confidence extraction_errors
    extraction_method extraction_rules finish_reason model_key model_name model_response
    option_order options_alike processing_time_ms prompt_id quality_flags reasoning_budget
    reasoning_characters reasoning_closed reasoning_standard_error reasoning_tokens
    reasoning_traces reasoning_truncated reasoning_unanswered reasoning_variance
    replaced_characters replication reported_model request_seed response_timestamp
    scoring_method status system_fingerprint system_message trial_index variant variant_of
    """.split()  # noqa: SIM905
)
#: Columns of the analysis' tables: no factor may be called so.
ANALYSIS_COLUMNS = frozenset(
    """
    answered cells_asked cells_empty ci_high ci_low cohen_dz contrast converged copies df
    df_den difference distribution estimate experiment family first_answer flagged formula
    higher item jsd_above_floor jsd_bits jsd_corrected jsd_floor_bits jsd_high jsd_low
    jsd_noise_high jsd_noise_low kind label last_answer lower measure model model_key
    model_name n n_answers n_cells n_higher n_items n_lower n_prompts note option_mass_mean
    option_mass_min outcome p p_bh p_equivalence pattern people_df people_p_two_sided people_t
    prompt_id prompts r r_corrected r_high r_low r_noise_high r_noise_low reference
    replication replications response rmse rmse_corrected rmse_high rmse_low rmse_noise_high
    rmse_noise_low row same_favourite sd se singular statistic t term total
    trace_characters trace_error trace_tokens traces trials truncated_percent
    unanswered_percent unit usable usable_percent value variant
    """.split()  # noqa: SIM905
)
#: Names of studies: they stand in paths, labels and options of the command line.
STUDY_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def identifier(name: str) -> str:
    """A name that expressions can use. Raises `ValueError`."""
    if not IDENTIFIER.fullmatch(name):
        raise ValueError(
            "must consist of letters, digits and '_', and begin with a letter; a column that the"
            " file calls otherwise gets `aliases`"
        )
    if name in RESERVED:
        raise ValueError("means something else in expressions; choose another name")
    return name


Identifier = Annotated[str, AfterValidator(identifier)]
Texts = list[StrictStr]
#: Combinations that factors may have.
MOST_COMBINATIONS = 1_000


def _few(factors: dict[str, list[Any]]) -> dict[str, list[Any]]:
    count = prod(map(len, factors.values()))
    if count > MOST_COMBINATIONS:
        raise ValueError(f"makes {count:,} combinations; at most {MOST_COMBINATIONS:,}")
    return factors


Factors = Annotated[
    dict[Identifier, Annotated[list[Value], Field(min_length=1)]], AfterValidator(_few)
]


class Condition(DeclarationPart):
    """Something that must hold; else the message is shown."""

    given: dict[Identifier, str] = Field(
        {}, description="Expressions with names of their own, for `when` and `message`."
    )
    when: str = Field(description="Expression that must be true.")
    message: str = Field(description="What is wrong if it is not; may hold {{ expressions }}.")


def _column(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


class Column(DeclarationPart):
    """A column of the stimuli; `text` alone is short for `{type: text}`."""

    type: Literal["text", "integer", "number"] = Field("text", description="What it holds.")
    about: str | None = Field(None, description="What it holds, in words, for the codebook.")
    aliases: Texts = Field([], description="Other names that a file may have for it.")
    empty: StrictBool = Field(False, description="Whether a text may be empty.")
    levels: list[Value] | None = Field(None, min_length=1, description="The values allowed.")
    minimum: float | None = Field(None, description="Least number allowed.")
    maximum: float | None = Field(None, description="Greatest number allowed.")
    conditions: list[Condition] = Field([], description="Over `value`, the column's own.")

    @model_validator(mode="after")
    def _fits_its_type(self) -> Column:
        if self.type == "text" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("a column of type text has no minimum and no maximum")
        if self.type != "text" and self.empty:
            raise ValueError("only a column of type text may be empty")
        wanted = {"text": str, "integer": int, "number": (int, float)}[self.type]
        for level in self.levels or []:
            if not isinstance(level, wanted) or isinstance(level, bool):  # type: ignore[arg-type]
                raise ValueError(f"the level {level!r} is no {self.type}")
        return self


class Derived(DeclarationPart):
    """A column computed from others: `value`, or the one of `classes` that the text fits."""

    value: str | None = Field(None, description="Expression over the columns.")
    of: str | None = Field(None, description="Expression that gives a text to be classified.")
    classes: dict[str, str] | None = Field(
        None, description="Pattern of each class; exactly one must fit the whole text."
    )
    message: str | None = Field(None, description="Why a row is refused that fits none or two.")

    @model_validator(mode="after")
    def _one_way(self) -> Derived:
        classified = (self.of, self.classes, self.message)
        if (self.value is None) == (None in classified) or (
            self.value is not None and classified != (None, None, None)
        ):
            raise ValueError("must hold either `value`, or `of`, `classes` and `message`")
        return self


class Stimuli(DeclarationPart):
    """The file of trials, one a row."""

    file: str = Field("stimuli.csv", description="CSV file, relative to the study's folder.")
    key: list[str] = Field(min_length=1, description="Columns that together identify a trial.")
    columns: dict[Identifier, Annotated[Column, BeforeValidator(_column)]] = Field(
        min_length=1, description="Columns, in the order of the file."
    )
    conditions: list[Condition] = Field([], description="Over each row, after its columns.")
    patterns: dict[Identifier, str] = Field(
        {}, description="Regular expressions of Python, which ignore case, by name."
    )
    derived: dict[Identifier, Derived] = Field(
        {}, description="Columns computed from others; tables may hold them, too."
    )


class AnswerField(DeclarationPart):
    """A field of an answer."""

    type: Literal["text", "integer", "number"] = Field("text", description="What it holds.")
    group: str | None = Field(
        None, alias="from", description="Group of the pattern, if it is named otherwise."
    )
    levels: list[Value] | dict[str, str] | None = Field(
        None,
        description="The values allowed; with a pattern each, the first that fits the whole text.",
    )
    levels_from: Texts | None = Field(
        None, description="Columns that hold the values allowed, where they differ by trial."
    )
    minimum: float | None = Field(None, description="Least number allowed.")
    maximum: float | None = Field(None, description="Greatest number allowed.")


class Messages(DeclarationPart):
    """What is said where an answer cannot be read."""

    none: str | None = Field(None, description="Default: '<what> not found'.")
    several: str | None = Field(
        None, description="Default: '<what> given more than once, differently'."
    )


class Refusal(DeclarationPart):
    """What around a match makes the answer unusable."""

    before: str | None = Field(None, description="Pattern, searched in what stands before.")
    after: str | None = Field(None, description="Pattern that what follows begins with.")
    look_back: int = Field(
        120, ge=1, le=10_000, description="Characters before that are looked at."
    )
    message: str = Field(description="What is said then.")

    @model_validator(mode="after")
    def _one_side(self) -> Refusal:
        if (self.before is None) == (self.after is None):
            raise ValueError("must hold either `before` or `after`")
        return self


class Further(DeclarationPart):
    """Further mentions in a group of the match, which count as said, too."""

    group: str = Field(alias="in", description="Group of the pattern above.")
    pattern: str = Field(description="Has the field's own group.")


class Reading(DeclarationPart):
    """One pattern and the fields that it finds."""

    what: str = Field(description="What is read, in words, for messages.")
    turn: str | None = Field(
        None, description="Turn that answers it, in variants that ask in several; else any."
    )
    each: Factors = Field({}, description="Read once for each value; the group of that name is it.")
    pattern: str | None = Field(
        None, description="Its groups, (?P<name>…), hold what the fields are read from."
    )
    option_of: Texts | None = Field(
        None,
        min_length=1,
        description="In place of `pattern`: queries of which the answer names one option.",
    )
    in_part: str | None = Field(
        None,
        description="With `option_of`: an answer that names no option in full, and all of whose"
        " words are options' or fit this pattern, names the one option that has those words.",
    )
    not_after: str | None = Field(
        None, description="Pattern; a match behind a text that it fits does not count."
    )
    look_back: int = Field(40, ge=1, le=10_000, description="Characters that `not_after` sees.")
    further: Further | None = None
    fields: dict[str, AnswerField] = Field(
        min_length=1, description="By column; a name may hold {factor} of `each`."
    )
    messages: Messages = Messages()
    refuse: list[Refusal] = Field([], description="What around a match makes it unusable.")

    @model_validator(mode="after")
    def _found_one_way(self) -> Reading:
        if (self.pattern is None) == (self.option_of is None):
            raise ValueError("must hold either `pattern` or `option_of`")
        if self.in_part is not None and self.option_of is None:
            raise ValueError("`in_part` is for readings by `option_of`")
        if self.option_of is not None:
            if self.each or self.further or self.not_after or len(self.fields) != 1:
                raise ValueError(
                    "`option_of` reads one field, without `each`, `not_after` and `further`"
                )
            if any(each != AnswerField() for each in self.fields.values()):
                raise ValueError("the field that `option_of` reads is a text; write {}")
        return self


class Example(DeclarationPart):
    """An answer, and what must be read of it."""

    answer: str = Field(description="As a model might write it.")
    trial: dict[str, str] = Field(
        {}, description="Columns of its trial, where what may be said differs by trial."
    )
    fields: dict[str, Value | None] = Field(
        min_length=1, description="What must be read; null for nothing."
    )


class Generate(DeclarationPart):
    """Experiment 1: the model writes an answer, which patterns read."""

    template: str = Field(description="File in the prompt folder.")
    ignore: str | None = Field(None, description="Pattern that is deleted before reading.")
    form: str = Field(
        description="Pattern of a whole answer in the form asked for: extraction_confidence 1."
    )
    patterns: dict[Identifier, str] = Field({}, description="Patterns for reading, by name.")
    read: list[Reading] = Field(min_length=1, description="What is read, in this order.")
    derived: dict[Identifier, str] = Field(
        {}, description="Texts made of fields, once all are read."
    )
    checks: list[Condition] = Field(
        [], description="Over the fields, where all are there; else the flag out_of_range."
    )
    examples: list[Example] = Field(
        min_length=1, description="Answers that must be read so: the patterns' own test."
    )


def _options(value: object) -> object:
    return {"texts": value} if isinstance(value, list) else value


class Options(DeclarationPart):
    """The options of a query: a list, a product of factors, or columns of the stimuli."""

    texts: Texts | None = Field(None, min_length=2, description="The options themselves.")
    product: Annotated[dict[Identifier, Texts], AfterValidator(_few)] | None = Field(
        None, min_length=1, description="Factors, of which every combination is an option."
    )
    text: str | None = Field(None, description="An option of the product, with {{ factor }}.")
    columns: Texts | None = Field(
        None, min_length=2, description="Columns that hold the options, where they differ by trial."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Options:
        if [self.texts, self.product, self.columns].count(None) != 2:
            raise ValueError("must be a list of texts, or hold either `product` or `columns`")
        if (self.product is None) != (self.text is None):
            raise ValueError("`text` belongs to `product`, and `product` needs it")
        return self


class Summaries(DeclarationPart):
    """Columns for a distribution's summaries."""

    mean: str | None = Field(None, description="Of the options' `values`.")
    std: str | None = Field(None, description="Standard deviation of the `values`.")
    entropy: str | dict[str, str] | None = Field(
        None, description="In bits; for a product also by factor, with `joint` for the whole."
    )


class QueryPart(DeclarationPart):
    """What queries of both kinds have."""

    name: str = Field(description="May hold {factor} of `each`.")
    when: str | None = Field(
        None, description="Expression over the columns: asked of these trials alone."
    )
    options: Annotated[Options, BeforeValidator(_options)]
    columns: str = Field(
        description="Column of an option's probability: {option}, {value}, {position} or a factor."
    )
    marginals: dict[str, str] = Field(
        {}, description="Columns for the factors of a product, such as {frame: 'prob_{frame}'}."
    )
    summaries: Summaries = Summaries()


class ScoreQuery(QueryPart):
    """Experiment 2: one query, whose options get probabilities."""

    each: Factors = Field({}, description="QueryPart once for each value, which the template sees.")
    template: str = Field(description="File in the prompt folder.")
    values: list[float] | None = Field(None, description="Numbers that the options stand for.")
    auxiliary: StrictBool = Field(
        False,
        description="Asked for a theory, as a prior is, and no part of the trial's answer: where it"
        " fails or its options get little mass, that is flagged apart.",
    )


class Continuation(QueryPart):
    """Experiment 2 without a question: options are texts that follow a context, or nothing."""

    context: str | None = Field(None, description="Column of the text before; none: the beginning.")
    logprobs: str | None = Field(
        None, description="Columns of the options' log-probabilities (natural log), as `columns`."
    )


class Tables(DeclarationPart):
    """Columns of the trials that tables show; by default all, and the derived ones."""

    responses: Texts | None = Field(None, description="In experiment 1's tables.")
    probabilities: Texts | None = Field(None, description="In experiment 2's table.")


class SeedOffsets(DeclarationPart):
    """Added to the replication's seed; two experiments of a run never have the same."""

    exp1: int | None = Field(
        None, ge=0, le=10**9, description="Default: a number made from the study's name."
    )
    exp2: int | None = Field(None, ge=0, le=10**9, description="Likewise.")


def _citations(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Declaration(DeclarationPart):
    """A study: what is asked, how answers are read, what is analysed."""

    title: str = Field(description="What readers know the study by.")
    summary: str = Field(description="What is asked, in a sentence or two.")
    cite: Annotated[Texts, BeforeValidator(_citations)] = Field(
        [], description="What to cite, one entry a work."
    )
    licence: str | None = Field(None, description="Of the items, such as CC-BY-4.0.")
    stimuli: Stimuli
    prompts: str = Field("prompts", description="Folder of prompt folders, one a wording.")
    variables: dict[Identifier, str] = Field(
        {}, description="What templates see: expressions over columns and derived columns."
    )
    generate: Generate | None = None
    score: list[ScoreQuery] = Field([], description="Experiment 2's queries.")
    continuations: list[Continuation] = []
    tables: Tables = Tables()
    labels: Labels | None = None
    factors: list[str] = Field([], description="Columns that make the cells of the analysis.")
    item: str | None = Field(None, description="Column of the random unit; default: the first key.")
    responses: list[Response] = Field([], description="Numbers that are analysed by cell.")
    contrasts: list[Contrast] = Field([], description="Planned differences between two cells.")
    models: list[MixedModel] = Field([], description="Mixed models of a response.")
    people: People | None = None
    theory: list[Theory] = Field([], description="Models of people.")
    analysis: Literal["generic"] | Analysis = "generic"
    report: ReportSection = ReportSection()
    figures: dict[str, Figure] = Field(
        {}, description="Captions and labels of the generic figures."
    )
    seed_offset: SeedOffsets = SeedOffsets()

    @model_validator(mode="after")
    def _asks_something(self) -> Declaration:
        if not (self.generate or self.score or self.continuations):
            raise ValueError("must hold `generate`, `score` or `continuations`: it asks nothing")
        return self


#: Short forms, for the JSON schema: what a value may be instead.
SHORT_FORMS: dict[str, dict[str, Any]] = {
    "Column": {"enum": ["text", "integer", "number"]},
    "Options": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    "cite": {"type": "string"},
}


def filled(form: str, values: Mapping[str, Any]) -> str:
    """A name such as `state{state}` for some values; an apostrophe is left out of names."""
    return re.sub(
        r"\{(\w+)\}",
        lambda found: str(values[found[1]]) if found[1] in values else found[0],
        form,
    )
