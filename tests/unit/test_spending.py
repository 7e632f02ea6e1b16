"""What steps of recipes take is noted, counts once, and is held against the budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grace.errors import BudgetError
from grace.forecast.hardware import Hardware
from grace.forecast.model_size import ModelSize
from grace.forecast.recipe_amounts import RecipeNumbers, RecipeTexts
from grace.forecast.recipe_steps import RecipeSite, arithmetic, estimate
from grace.posttraining import spending
from grace.posttraining.budget import RecipeBudget
from grace.posttraining.spending import (
    Spending,
    Try,
    ledger_of,
    ratios,
    read_ledger,
    spent_in,
    taken_up,
    tried_s,
)

#: An hour of SFT: 6e9 FLOP for each of 1,000 rows of 300 tokens, on a GPU of half a TFLOP/s.
GPU = Hardware("toy", 1, flops=5e11, bandwidth=1e15)
SITE = RecipeSite(
    recipe="r", folder="nowhere",
    numbers=RecipeNumbers(1000, 0, 5, 4, 99, 279, 4, 1000, 1, 1),
    texts=RecipeTexts(20.0, 0.0, 0.0, 0.0),
    served=False, concurrency=8, size=ModelSize(1e9, 0.0, 1.0, 2e9, 1e5, 0.0, 0.0),
    asking=GPU, training=GPU, asking_gpus=1, training_gpus=2,
    four_bits={"sft": False, "dpo": False}, micro_batch={"sft": 1, "dpo": 1}, price=3.0,
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path) -> str:
    return ledger_of(str(tmp_path), "results", "r")


def settings(ledger: str, site: RecipeSite = SITE, seed: int | None = 1, **budget: Any) -> dict:
    own = {"ledger": ledger, "budget": RecipeBudget(**budget).dump(), "site": site.dump()}
    # As rules pass it.
    return json.loads(json.dumps({"spending": {**own, "step": "sft", "seed": seed}}))


def write(ledger: str, **changes: Any) -> Try:
    one = Try("r", "sft", 1, "2026-01-01", 3600.0, 2, "1 x toy", 3.0, done=True)
    one = replace(one, **changes)
    Path(ledger).mkdir(parents=True, exist_ok=True)
    number = len(list(Path(ledger).iterdir()))
    (Path(ledger) / f"{number}.json").write_text(json.dumps(vars(one)))
    return one


def test_a_step_is_noted_with_its_gpus_and_the_price_of_the_day(ledger, monkeypatch):
    clock = iter([100.0, 100.0, 1900.0])
    monkeypatch.setattr(spending.time, "monotonic", lambda: next(clock))
    with Spending(settings(ledger)) as spent:
        spent.begin()
        spent.begin()
    (one,) = read_ledger(ledger)
    assert (one.step, one.seed, one.gpus, one.on, one.done) == ("sft", 1, 2, "1 x toy", True)
    assert (one.seconds, one.gpu_hours, one.usd) == (1800.0, 1.0, 3.0)
    assert one.forecast_s == estimate(SITE, "sft", 1).seconds
    assert (one.start_s, one.work_s) == arithmetic(SITE, "sft", 1)


def test_what_the_journal_answers_and_a_training_found_done_count_nothing(ledger):
    with Spending(settings(ledger)):
        pass
    with Spending(settings(ledger)) as spent:
        spent.begin()
        assert len(read_ledger(ledger)) == 1
        spent.found_done()
    assert read_ledger(ledger) == []
    with Spending({}) as spent:
        spent.begin()


def test_a_step_that_failed_or_was_killed_has_been_paid_for(ledger, monkeypatch):
    monkeypatch.setattr(spending, "BEAT_S", 0.01)

    def fails() -> None:
        with Spending(settings(ledger)) as spent:
            spent.begin()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    (failed,) = read_ledger(ledger)
    assert (failed.done, failed.beat, failed.work_s) == (False, 0.0, None)
    # A process that is killed leaves what its last beat noted.
    spent = Spending(settings(ledger))
    spent.begin()
    first = next(one for one in read_ledger(ledger) if one.beat)
    spent._over.wait(0.2)
    later = next(one for one in read_ledger(ledger) if one.beat)
    assert later.seconds > first.seconds
    spent.found_done()


def test_a_budget_stops_a_step_before_it_starts_and_a_raised_one_lets_it_go_on(ledger):
    needed = estimate(SITE, "sft", 1).gpu_hours
    assert needed is not None
    write(ledger, seconds=1800.0)
    Spending(settings(ledger, gpu_hours=1.0 + needed + 0.01))
    with Spending(settings(ledger, gpu_hours=1.0 + needed + 0.01)) as spent:
        spent.begin()
        spent.found_done()
    tight = Spending(settings(ledger, gpu_hours=1.0 + needed - 0.01))
    with tight, pytest.raises(BudgetError) as refusal:
        tight.begin()
    told = str(refusal.value)
    assert "sft of seed 1 would be beyond its budget: 1.00 GPU-hours are spent and" in told
    assert "Raise `budget` in config/recipes.yaml and run the same command again" in told
    assert len(read_ledger(ledger)) == 1
    with pytest.raises(BudgetError, match=r"3\.00 USD are spent"):
        Spending(settings(ledger, usd=3.0 + needed * 3.0 - 0.1)).begin()
    Spending(settings(ledger, usd=3.0 + needed * 3.0 + 0.1)).begin()


def test_what_a_killed_try_has_done_is_no_longer_to_be_paid(ledger):
    """Its answers and checkpoints are kept, so that less is left."""
    whole = estimate(SITE, "sft", 1).seconds
    assert whole is not None
    write(ledger, seconds=whole / 2, done=False)
    assert tried_s(read_ledger(ledger), "sft", 1) == whole / 2
    assert tried_s(read_ledger(ledger), "sft", 2) == 0
    hours = whole * 2 / 3600
    with Spending(settings(ledger, gpu_hours=hours * 1.01)) as spent:
        spent.begin()
        spent.found_done()
    write(ledger, done=True, started="2026-01-02", seconds=1.0)
    assert tried_s(read_ledger(ledger), "sft", 1) == 0


def test_a_step_under_way_elsewhere_counts_with_what_is_forecast_of_it(ledger):
    write(ledger, seconds=10.0, beat=1e6, done=False, forecast_s=3600.0)
    tries = read_ledger(ledger)
    assert taken_up(tries, 1e6 + 1)[0] == 2.0
    assert taken_up(tries, 1e6 + 1e4)[0] == spent_in(tries)[0] == 20 / 3600


def test_cores_cost_nothing_and_money_without_a_price_is_not_known(ledger):
    write(ledger, gpus=0, on="4 cores", price=None)
    assert spent_in(read_ledger(ledger)) == (0.0, 0.0)
    write(ledger, price=None)
    assert spent_in(read_ledger(ledger)) == (2.0, None)
    (Path(ledger) / "x.json").write_text('{"recipe": 1}')
    (Path(ledger) / "y.json").write_text("{")
    assert len(read_ledger(ledger)) == 2


def test_past_steps_hold_the_forecast_those_of_the_recipe_before_others(ledger, tmp_path):
    on = {"1 x toy"}
    other = ledger_of(str(tmp_path), "results", "other")
    write(other, seconds=210.0, start_s=10.0, work_s=100.0)
    write(other, seconds=410.0, start_s=10.0, work_s=100.0)
    write(other, step="judge_pairs", seconds=30.0, start_s=10.0, work_s=40.0)
    assert ratios(ledger, on) == {"sft": (3.0, 2), "judge": (0.5, 1)}
    write(ledger, seconds=110.0, start_s=10.0, work_s=100.0)
    assert ratios(ledger, on) == {"sft": (1.0, 1), "judge": (0.5, 1)}
    # Neither what failed, nor what the journal or a checkpoint had, nor other hardware.
    write(ledger, seconds=900.0, start_s=10.0, work_s=100.0, done=False)
    write(ledger, seconds=900.0)
    write(ledger, seconds=900.0, start_s=10.0, work_s=100.0, on="4 cores")
    assert ratios(ledger, on)["sft"] == (1.0, 1)
    assert ledger_of("j", "results", "r") != ledger_of("j", "other", "r")


def test_an_answer_of_the_journal_says_nothing_of_speed(ledger):
    for share, kept in ((0.4, False), (0.8, True)):
        with Spending(settings(ledger, seed=int(share * 10))) as spent:
            spent.begin()
            spent.asked(share)
        one = next(one for one in read_ledger(ledger) if one.seed == int(share * 10))
        assert (one.work_s is not None) == kept
    assert one.work_s == pytest.approx(0.8 * (arithmetic(SITE, "sft", 8) or (0, 0))[1])
