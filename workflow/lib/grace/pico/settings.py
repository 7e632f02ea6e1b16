"""What decides the trained pico, besides code and prompts. Cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: The bundled studies whose prompts it is trained on.
TRAINED_ON = ("study1", "study2")


@dataclass(frozen=True)
class Stage:
    """A stretch of training with an optimiser, a random stream and a learning rate of its own."""

    steps: int
    learning_rate: float
    #: The learning rate falls to zero at this step; by default, at the stage's end.
    zero_at: int | None = None
    warmup_steps: int = 100
    #: Trees a step: study 1's bets and knowledge, study 1's free answers, study 2.
    bet_trees: int = 8
    free_trees: int = 5
    utterance_trees: int = 4
    #: Of the four questions about bets, those asked in a tree.
    bets: int = 2
    #: Sampled answers to a free question.
    free_answers: int = 3
    #: Weight of the bets' loss beside the others'. A free answer holds six decisions, a bet one.
    bet_weight: float = 1.0
    #: Share of study 1's stories in which the speaker says `two`, not `2`.
    number_words: float = 0.15
    #: Chance that a sentence of such a story brings in a number that is beside the point.
    asides: float = 0.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the trained model is, besides code and prompts."""

    seed: int = 0
    vocabulary: int = 1024
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    weight_decay: float = 0.01
    #: PyTorch threads; another number rounds differently.
    threads: int = 2
    #: First fast, on stories without distractors; then slower, on what was found to be hard.
    stages: tuple[Stage, ...] = (
        Stage(1750, 3e-3, zero_at=2600, bet_trees=6, utterance_trees=8),
        Stage(600, 1.2e-3, zero_at=2800),
        Stage(1400, 8e-4, zero_at=2000, bet_weight=4.0, number_words=0.05),
        Stage(1400, 5e-4, bet_weight=4.0, number_words=0.05, asides=0.3),
        Stage(800, 4e-4, bet_trees=5, free_trees=9, bet_weight=4.0, number_words=0.05, asides=0.2),
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from what `as_dict` gave. Raises `TypeError` on an unknown name."""
        stages = tuple(Stage(**stage) for stage in values["stages"])
        return cls(**{**values, "stages": stages})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, such as JSON and Snakemake's params hold."""
        return {**asdict(self), "stages": [asdict(stage) for stage in self.stages]}
