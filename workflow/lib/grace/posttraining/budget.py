"""What a recipe may take: its budget, and what is said where it would not be enough. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from grace.settings.recipes import Recipe


@dataclass(frozen=True)
class RecipeBudget:
    """Most GPU-hours and US dollars of a recipe; None where there is no such limit."""

    gpu_hours: float | None = None
    usd: float | None = None

    def __str__(self) -> str:
        parts = [
            *([f"{self.gpu_hours:,.4g} GPU-hours"] if self.gpu_hours is not None else []),
            *([f"{self.usd:,.2f} USD"] if self.usd is not None else []),
        ]
        return " and ".join(parts) or "none"

    def dump(self) -> dict[str, float | None]:
        return asdict(self)

    def exceeded(
        self, spent_hours: float, spent_usd: float | None, more_hours: float,
        more_usd: float | None,
    ) -> str | None:  # fmt: skip
        """How `more` on top of what was spent is beyond it, in words; None where it is not.

        Money that is not known exceeds nothing.
        """
        found = []
        if self.gpu_hours is not None and spent_hours + more_hours > self.gpu_hours:
            found.append(
                f"{spent_hours:,.2f} GPU-hours are spent and {more_hours:,.2f} more are forecast,"
                f" {spent_hours + more_hours:,.2f} of {self.gpu_hours:,.2f} (`budget.gpu_hours`)"
            )
        paid, more = spent_usd or 0.0, more_usd or 0.0
        if self.usd is not None and paid + more > self.usd:
            found.append(
                f"{paid:,.2f} USD are spent and {more:,.2f} more are forecast, {paid + more:,.2f}"
                f" of {self.usd:,.2f} (`budget.usd`)"
            )
        return "; ".join(found) or None


def budget_of(recipe: Recipe) -> RecipeBudget:
    """A recipe's budget."""
    return RecipeBudget(recipe.budget.gpu_hours, recipe.budget.usd)
