"""What is known of a published model and cannot change an answer: `about` of its entry."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from grace.settings.fields import Length, Source, Text
from grace.settings.price import TokenPrice
from grace.settings.strict import Strict

Kind = Literal["base", "instruct"]


class ModelFacts(Strict):
    """Facts of the publisher's. What is left out is not known, `source` says who said the rest."""

    source: Text = Field(description="Where the facts are from; `models add` names the commit.")
    licence: Text | None = Field(None, description="The hub's name for it, such as `gemma`.")
    gated: bool | None = Field(
        None, description="Whether the hub gives files only to who has accepted the licence."
    )
    kind: Kind | None = Field(
        None, description="`base` continues texts; `instruct` was tuned to answer."
    )
    base: Source | None = Field(
        None, description="Hub id of the base model that an `instruct` model was tuned from."
    )
    architecture: Text | None = Field(
        None,
        description="What computes it: the first of `architectures` in its config.json, such as"
        " `Gemma2ForCausalLM`.",
    )
    context: Length | None = Field(None, description="Most tokens of prompt and answer.")
    sliding_window: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Tokens back that layers with a sliding window see; null where all see all.",
    )

    price: TokenPrice | None = Field(
        None, description="What a million tokens cost, of a model at an API."
    )

    def why_wrong(self, prompting: str, max_model_len: int) -> str | None:
        """Why a model cannot be run so, None where it can. Lengths in tokens."""
        if self.kind == "base" and prompting != "completion":
            return (
                "`about` says that this is a base model (`kind: base`), which was not trained to"
                " answer in a chat, even where it brings a chat template. Add `prompting:"
                " completion`, or correct `kind`"
            )
        if self.kind == "base" and self.base is not None:
            return (
                "`about` has `base`, which is for tuned models, but says `kind: base`. Take one"
                " of the two out"
            )
        if self.context is not None and max_model_len > self.context:
            return (
                f"`max_model_len` is {max_model_len:,}, but `about` says that the model holds"
                f" {self.context:,} tokens (`context`). Lower `max_model_len`, or correct"
                " `context`"
            )
        return None
