"""What a declaration says of the analysis: labels, responses, contrasts, models, people, theory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

#: Annotated, since `typing` keeps unions that were made before: in a process where another library
#: has made one of these in another order, schemas would have that.
Value = Annotated[StrictInt | StrictFloat | StrictStr, Field(union_mode="smart")]
#: A cell or part of one: values by factor.
Cell = dict[str, Value]
#: The column of tables that says who of the people answered.
PARTICIPANT = "participant"
#: Values by column; every combination is meant.
Cells = dict[str, list[Value]]


class DeclarationPart(BaseModel):
    """A part of a declaration."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=False,
        validate_by_alias=True,
    )  # fmt: skip


class Labels(DeclarationPart):
    """What an option is in a trial, so that options that differ by trial are counted alike."""

    queries: list[str] = Field(min_length=1, description="Queries whose options have the labels.")
    field: str | None = Field(
        None, description="Experiment 1's field that holds an option; its column <field>_label."
    )
    of: dict[str, str] = Field(
        min_length=2, description="Expression over columns and `option`; exactly one must hold."
    )
    columns: str = Field("prob_{label}", description="Columns of the summed probabilities.")


class Response(DeclarationPart):
    """A number that is analysed by cell."""

    name: str = Field(description="How tables and figures name it.")
    exp1: str | None = Field(None, description="Expression over experiment 1's columns.")
    exp2: str | None = Field(None, description="Column of experiment 2, or expression over them.")
    range: list[float] | None = Field(
        None, min_length=2, max_length=2, description="Lowest and highest value, for figures."
    )
    unit: str | None = Field(None, description="Of its values.")


class PublishedTest(DeclarationPart):
    """People's test of a contrast, as published."""

    t: float = Field(description="Statistic.")
    df: float | None = Field(None, description="Degrees of freedom.")
    p: str | float | None = Field(None, description="As it was published.")
    n: int | None = Field(None, description="Number of people.")


class Contrast(DeclarationPart):
    """A planned difference of a response between two cells."""

    name: str = Field(description="How tables name it.")
    response: str = Field(description="Name of a response.")
    higher: Cell = Field(min_length=1, description="Where the response is expected to be higher.")
    lower: Cell = Field(min_length=1, description="The other cell.")
    people: PublishedTest | None = None
    cite: str | None = Field(None, description="Where it is from.")


class MixedModel(DeclarationPart):
    """A mixed model of a response."""

    name: str = Field(description="How tables name it.")
    response: str = Field(description="Name of a response.")
    formula: str = Field(description="Such as 'response ~ role + (1 | item)'.")
    family: Literal["gaussian", "binomial"] = Field(
        "gaussian", description="Distribution of the response."
    )
    compare: list[str] = Field([], description="Terms of which a model without them is compared.")


class People(DeclarationPart):
    """Human answers."""

    file: str = Field(description="CSV file, relative to the study's folder.")
    kind: Literal["trials", "cells"] = Field(
        "trials", description="One answer a row, or `n` of `total` answers."
    )
    participant: str | None = Field(
        None,
        description="Column of the file that says who answered (`kind: trials`): participants are"
        " then the units of people's numbers.",
    )
    source: str = Field("human", description="How tables name these answers.")
    cells: list[str] = Field(min_length=1, description="Columns that make a cell.")
    outcome: Cells = Field(
        min_length=1, description="Columns that tell the answer, and what each may hold."
    )
    columns: dict[str, str] = Field(
        {}, description="What each column is in the file, if it is named otherwise."
    )
    values: dict[str, dict[str, Value]] = Field(
        {}, description="By column: what a text of the file stands for."
    )
    cite: str | None = Field(None, description="Where it is from.")

    @model_validator(mode="after")
    def _says_who_answered(self) -> People:
        if PARTICIPANT in (*self.cells, *self.outcome):
            raise ValueError(f"`cells` and `outcome` cannot have the name '{PARTICIPANT}'")
        if self.participant is None:
            return self
        if self.kind == "cells":
            raise ValueError(
                "`participant` needs one answer a row (`kind: trials`): counts by cell do not say"
                " who gave which"
            )
        taken = [self.columns.get(name, name) for name in (*self.cells, *self.outcome)]
        if self.participant in taken:
            raise ValueError(
                "`participant` names a column that holds who answered, which is none of `cells`"
                " and `outcome`"
            )
        return self


class ParameterRange(DeclarationPart):
    """Where a fitted parameter may lie; its flat prior."""

    low: float = Field(description="The lowest value that it may have.")
    high: float = Field(description="The highest.")

    @model_validator(mode="after")
    def _is_a_range(self) -> ParameterRange:
        if self.low >= self.high:
            raise ValueError("`low` must be below `high`")
        return self


class FittedParameter(ParameterRange):
    """A parameter that answers give."""

    by: list[str] = Field([], description="Columns of the cell; it has a value for each.")
    start: float | None = Field(None, description="Where the search for the best value begins.")

    @model_validator(mode="after")
    def _starts_inside(self) -> FittedParameter:
        if self.start is not None and not self.low <= self.start <= self.high:
            raise ValueError("`start` must lie between `low` and `high`")
        return self


class ModelAnswers(DeclarationPart):
    """Where the answers of language models stand that a theory is fitted to."""

    item: str = Field(description="Column of the items, which intervals are made by.")
    cells: dict[str, str] = Field(
        {}, description="Columns of the cell, if the table calls them otherwise."
    )
    exp1: str | dict[str, str] | None = Field(
        None,
        description="Column of each outcome's share, such as 'bet_{state}', or the columns that"
        " hold the outcome chosen.",
    )
    exp2: str | None = Field(None, description="Column of each outcome's probability.")

    def of(self, experiment: str) -> str | dict[str, str] | None:
        """What is declared of an experiment, `exp1` or `exp2`."""
        return self.exp1 if experiment == "exp1" else self.exp2


class ElicitedPrior(DeclarationPart):
    """What a model believes of an item beforehand, in place of parameters.

    The theory is fitted to models once more with it, as `<source>_elicited`.
    """

    argument: str = Field(description="The function's argument that takes it, by name.")
    exp2: str = Field(
        description="Column of each outcome's share, such as 'prior{state}_mean', before all else."
    )
    in_place_of: list[str] = Field(
        min_length=1, description="Parameters that it takes the place of."
    )


class Fit(DeclarationPart):
    """How a theory is fitted: to people, by posterior means; to each model, by maximum likelihood.

    Both with 95% intervals.
    """

    to: list[Literal["people", "models"]] = Field(
        ["people"], min_length=1, description="Whose answers give the parameters."
    )
    by: list[str] = Field([], description="Columns of the cell; fitted apart for each value.")
    parameters: dict[str, FittedParameter] = Field(
        min_length=1,
        max_length=12,
        description="Passed to the function by name; at most 3 where people's answers give them.",
    )
    simplex: list[list[str]] = Field([], description="Parameters that sum to 1 with each other.")
    answers: ModelAnswers | None = Field(None, description="Models' answers.")
    elicited: ElicitedPrior | None = Field(
        None,
        description="Each model's own prior for each item: the theory fitted once more, to it.",
    )


class Theory(DeclarationPart):
    """A model of people: a pure function in the study's theory.py."""

    source: str = Field(description="How tables name it.")
    function: str = Field(description="Function of theory.py.")
    arguments: list[str] = Field(
        [], description="Columns of the cell that it takes, by position; default: all."
    )
    cells: Cells = Field(
        min_length=1, description="Columns of which every combination of values is a cell."
    )
    where: str | None = Field(None, description="Expression that leaves cells out.")
    parameters: dict[str, Value | list[Value]] = Field({}, description="Passed by name.")
    files: dict[str, str] = Field({}, description="Paths that are passed by name.")
    fit: Fit | None = Field(None, description="Parameters that people's answers give.")
    outcome: Cells = Field(
        min_length=1,
        description="What it gives a probability of: every combination, the last changing fastest.",
    )
    cite: str | None = Field(None, description="Where it is from.")
    published: dict[str, Any] = Field({}, description="Published values, for readers.")


class Figure(DeclarationPart):
    """A figure's file, caption and label."""

    file: str | None = Field(None, description="Its file's name, without an ending.")
    caption: str | None = Field(None, description="File with the caption.")
    label: str | None = Field(None, description="In the list of figures.")
    leave_out: StrictBool = Field(False, description="Whether it is left out.")


class Analysis(DeclarationPart):
    """An analysis of the study's own."""

    script: str = Field(description="R file with a function `analyse(input, output, params)`.")
    sources: list[str] = Field([], description="R files that are sourced before it, in order.")
    tables: list[str] = Field([], description="<study>_<table>.csv for each.")
    figures: dict[str, Figure] = Field({}, description="Figures that the script writes.")
    inputs: dict[str, str] = Field({}, description="Further files that it reads, by name.")


class ReportSection(DeclarationPart):
    """The study's section of the report."""

    category: str | None = Field(None, description="Heading; default: the title.")
    section: str | None = Field(None, description="R Markdown file; default: a generic one.")
    sources: list[str] = Field([], description="R files that are sourced before it, in order.")
