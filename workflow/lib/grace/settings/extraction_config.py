"""The block `extraction` of config/config.yaml: who reads raw answers, and how it is asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from grace.settings.fields import BaseUrl, ModelKey, Text, Variable
from grace.settings.price import TokenPrice
from grace.settings.strict import Strict

#: Keys of a request that Grace sets itself.
OWN_BODY = frozenset({"max_tokens", "messages", "model", "response_format", "temperature"})
DEEPSEEK = "https://api.deepseek.com"


class ExtractionConfig(Strict):
    """How raw answers are read; all but `method` is about a model that reads them."""

    method: Literal["rules", "model", "rules-then-model"] = Field(
        "rules",
        description="`rules`: deterministic patterns. `model`: a language model reads every answer."
        " `rules-then-model`: those that the patterns cannot read.",
    )
    base_url: BaseUrl = Field(DEEPSEEK, description="The API's base URL (OpenAI-compatible).")
    model: Text = Field(
        "deepseek-v4-flash",
        description="The model's name at that API; without a `base_url`, an entry of models.yaml.",
    )
    api_key_env: Variable | None = Field(
        "DEEPSEEK_API_KEY",
        description="Environment variable that holds the key, in capitals; null for none.",
    )
    entry: ModelKey | None = Field(
        None,
        description="Entry of models.yaml in place of these three: an `endpoint`, or a model that"
        " the run loads itself.",
    )
    reply_format: Literal["auto", "json_schema", "json_object", "text"] = Field(
        "auto", description="`response_format` asked for; `auto`: the strictest that is offered."
    )
    body: dict[str, Any] | None = Field(
        None,
        description="Further keys of each request's body; null: thinking off where `base_url` is"
        " DeepSeek's, else none.",
    )
    max_tokens: int = Field(1024, ge=16, le=1_000_000, description="Most tokens of a reply.")
    tries: int = Field(
        3, ge=1, le=10, description="Replies to one question, the first included, until one fits."
    )
    queries: int = Field(
        1, ge=1, le=9, description="How often each answer is read; more than half must agree."
    )

    price: TokenPrice | None = Field(
        None,
        description="What a million tokens cost at that API; of an entry: `about.price`.",
    )

    @field_validator("body")
    @classmethod
    def _nothing_of_ours(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        ours = sorted(OWN_BODY & set(value or ()))
        if ours:
            raise ValueError(f"must not hold {', '.join(ours)}, which Grace sets itself")
        return value

    @property
    def asks_model(self) -> bool:
        """Whether a language model reads answers."""
        return self.method != "rules"

    @property
    def asks_api(self) -> bool:
        """Whether that is a model at an API; `entry` has been resolved, and names any other."""
        return self.asks_model and self.entry is None

    def output_config(self) -> dict[str, Any]:
        """What of it can change a reading; `entry` has been resolved.

        What a model of this run is, its entry and its files say.
        """
        if not self.asks_model:
            return {"method": self.method}
        if not self.asks_api:
            return self.model_dump(exclude={"api_key_env", "entry", "base_url", "body", "price"})
        found = self.model_dump(exclude={"api_key_env", "entry", "price"})
        return {**found, "body": self.further_body}

    @property
    def further_body(self) -> dict[str, Any]:
        """Keys of each request beside Grace's own. DeepSeek's models think unless told not to."""
        if self.body is not None:
            return self.body
        return {"thinking": {"type": "disabled"}} if self.base_url == DEEPSEEK else {}
