"""Trials whose prompts and options begin alike in many places."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grace.engines.base import ScoreRequest
from grace.scoring.joining import plan_query

BOS, END = 1, 2
STORIES = (
    "Ann saw 10 of 12 halls. Bo saw 3. They were terrible, not bad. ",
    "Were exactly 3 in the hall? Or 100 of 120? Nobody asked Bo. ",
    "Bo saw 2. ",
)
QUESTIONS = (
    ("How sure is Bo that 3 were? Answer:", ("0%", "10%", "100%", "50%")),
    ("Was it good? Answer: ", ("bad", "badly", "terrible", "good")),
    ("How sure is Bo that 2 were? Answer:", ("0%", "10%", "100%", "50%")),
)


def trials(tokenise: Callable[[str], list[int]]) -> list[ScoreRequest]:
    requests = []
    for number, story in enumerate(STORIES):
        for question, options in QUESTIONS:
            text = story + question
            plan = plan_query(partial(map, tokenise), text, tokenise(text), options)
            requests.append(
                ScoreRequest(
                    f"{number} {question}",
                    (BOS, *plan.prompt_token_ids),
                    plan.option_token_ids,
                    (END, 5),
                    group=str(number),
                )
            )
    return requests
