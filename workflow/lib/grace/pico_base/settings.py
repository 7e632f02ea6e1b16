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
    matrix_rate: float
    other_rate: float
    #: Each on one thread, with a share of an update's rows; another number gives another model.
    processes: int
    warmup_steps: int = 30
    #: Share of all steps, the last, in which both rates fall to zero.
    falling: float = 0.4


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
    #: First the ability, then judging, then the ability in several manners.
    phases: tuple[BasePhase, ...] = (
        BasePhase(
            (
                BaseStage(250, 16, 128, 8, 0, {"good": 1.0}),
                BaseStage(350, 16, 160, 8, 0, {"good": 0.15, "checked": 0.45, "judged": 0.4}),
                BaseStage(
                    300, 12, 224, 8, 0,
                    {"mannered": 0.5, "judged": 0.3, "checked": 0.05, "study": 0.15},
                ),
                BaseStage(25, 2, 1450, 8, 8, {"mannered": 0.15, "judged": 0.15, "study": 0.7}),
            ),
            matrix_rate=0.02, other_rate=3e-3, processes=2,
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
