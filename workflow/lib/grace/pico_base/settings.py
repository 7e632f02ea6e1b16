"""What decides the trained pico-base, besides code, bank, constitution and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class BaseStage:
    """A stretch of training on documents of some kinds."""

    steps: int
    #: Rows of an update, over all processes, and tokens of a row.
    rows: int
    length: int
    #: Most items of a document, and most examples before a study's question.
    items: int
    examples: int
    #: Kinds of documents (methods of `grace.pico_base.documents.Documents`) and their shares.
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BasePhase:
    """Stages with an optimiser and random streams of their own, by so many processes."""

    stages: tuple[BaseStage, ...]
    #: Learning rates of matrices (Muon), and of embeddings and gains (AdamW).
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    #: Each on one thread, with a share of an update's rows; another number gives another model.
    processes: int = 2
    warmup_steps: int = 30
    #: Answers are also to stand after so many layers, so that those above can judge; 0: no.
    early: int = 0
    #: Share of all steps, the last, in which both rates fall to zero; 0: they do not.
    falling: float = 0.0
    #: So many times the stages follow each other.
    cycles: int = 1
    #: After so many steps it was ended by hand, by what it had learnt; 0: it was not.
    ended: int = 0


@dataclass(frozen=True)
class BaseSettings:
    """Everything that decides what the trained model is, besides code and texts."""

    seed: int = 0
    vocabulary: int = 1536
    width: int = 128
    layers: int = 6
    heads: int = 4
    feed_forward: int = 160
    context: int = 2048
    #: Weights of a verdict, and of a token that is none and no answer, beside an answer's.
    verdict_weight: float = 2.0
    other_weight: float = 0.1
    #: First the ability; then it and judging, from the nearest verdict to the farthest; at last the
    #: manners in which instructions are answered, and the studies.
    phases: tuple[BasePhase, ...] = (
        BasePhase((BaseStage(250, 16, 128, 8, 0, {"good": 1.0}),), falling=0.05),
        BasePhase(
            (BaseStage(600, 16, 128, 8, 0, {"good": 0.3, "checked": 0.5, "judged": 0.2}),),
            falling=0.05, ended=450,
        ),
        BasePhase(
            (BaseStage(600, 16, 128, 8, 0, {"good": 0.15, "checked": 0.65, "judged": 0.2}),),
            early=4, ended=150,
        ),
        BasePhase(
            (
                BaseStage(
                    600, 16, 128, 8, 0,
                    {"good": 0.1, "marked": 0.5, "checked": 0.3, "judged": 0.1},
                ),
            ),
            early=4, ended=250,
        ),
        BasePhase(
            (
                BaseStage(
                    600, 16, 160, 6, 0,
                    {"good": 0.1, "marked": 0.2, "checked": 0.2, "judged": 0.5},
                ),
            ),
            early=4, ended=300,
        ),
        BasePhase(
            (
                BaseStage(
                    100, 16, 160, 6, 0,
                    {"good": 0.1, "marked": 0.1, "checked": 0.2, "accepting": 0.6},
                ),
                BaseStage(260, 16, 160, 6, 0, {"mannered": 0.3, "checked": 0.1, "judged": 0.6}),
                BaseStage(110, 12, 224, 8, 0, {"mannered": 0.4, "judged": 0.4, "study": 0.2}),
                BaseStage(20, 2, 1450, 8, 8, {"mannered": 0.15, "judged": 0.15, "study": 0.7}),
            ),
            early=4, falling=0.3, ended=400,
        ),
        BasePhase(
            (
                BaseStage(160, 16, 160, 6, 0, {"mannered": 0.2, "judged": 0.8}),
                BaseStage(120, 12, 224, 8, 0, {"mannered": 0.4, "judged": 0.4, "study": 0.2}),
                BaseStage(15, 2, 1450, 8, 8, {"mannered": 0.15, "judged": 0.15, "study": 0.7}),
            ),
            early=4, falling=0.35,
        ),
        BasePhase(
            (
                BaseStage(110, 16, 160, 6, 0, {"mannered": 0.65, "judged": 0.35}),
                BaseStage(10, 2, 1450, 8, 8, {"mannered": 0.2, "judged": 0.2, "study": 0.6}),
            ),
            early=4, falling=0.8,
        ),
        BasePhase(
            (
                BaseStage(100, 16, 160, 5, 0, {"mannered": 0.6, "judged": 0.4}),
                BaseStage(10, 2, 1450, 5, 8, {"mannered": 0.25, "judged": 0.25, "study": 0.5}),
            ),
            early=4, falling=0.8,
        ),
        BasePhase(
            (
                BaseStage(90, 16, 160, 5, 0, {"mannered": 0.6, "judged": 0.4}),
                BaseStage(8, 2, 1450, 5, 8, {"mannered": 0.25, "judged": 0.25, "study": 0.5}),
            ),
            early=4, falling=0.8,
        ),
        BasePhase(
            (
                BaseStage(2, 16, 160, 5, 0, {"mannered": 0.5, "judged": 0.5}),
                BaseStage(2, 8, 320, 5, 1, {"study": 0.3, "stories": 0.7}),
            ),
            early=4, cycles=75,
        ),
        BasePhase(
            (
                BaseStage(3, 16, 160, 5, 0, {"mannered": 0.6, "judged": 0.4}),
                BaseStage(1, 8, 320, 5, 1, {"study": 0.3, "stories": 0.7}),
                BaseStage(2, 2, 1580, 5, 6, {"shipped": 0.7, "stories": 0.3}),
            ),
            early=4, falling=0.8, cycles=60,
        ),
    )  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BaseSettings:
        """Settings from what `as_dict` gave. Raises `TypeError` on an unknown name."""
        phases = (
            BasePhase(**{**phase, "stages": tuple(BaseStage(**one) for one in phase["stages"])})
            for phase in values["phases"]
        )
        return cls(**{**values, "phases": tuple(phases)})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, such as JSON holds."""
        return asdict(self)
