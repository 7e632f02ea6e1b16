"""What an API charges for tokens; it changes no answer."""

from __future__ import annotations

from pydantic import Field

from grace.settings.strict import Strict

_TOKENS = 1_000_000


class TokenPrice(Strict):
    """Prices of a million tokens, in any currency: the same in all of a project."""

    input: float = Field(ge=0, le=1e6, description="Of a million tokens that it reads.")
    output: float = Field(ge=0, le=1e6, description="Of a million tokens that it writes.")

    def cost(self, read: float, written: float) -> float:
        """Of so many tokens."""
        return (self.input * read + self.output * written) / _TOKENS
