"""Errors that a person can act on.

Everything a user can get wrong raises `GraceError` (or a subclass). Its text says what is
wrong, where, what is allowed and what to do, so it is shown alone, without a traceback.
"""

from __future__ import annotations


class GraceError(Exception):
    """A mistake of the user's or a failure of the world outside, explained in one or two lines."""


class ConfigError(GraceError):
    """A config or model sheet holds a key or value that is not allowed."""


class StimuliError(GraceError):
    """A stimuli CSV cannot be used; the message names file, row and column."""


class EngineError(GraceError):
    """An engine cannot run at all: no GPU, no environment, a dead server, a refused key."""


class RequestError(GraceError):
    """One request failed for good after its retries; the run goes on and records it."""


class RecordError(GraceError):
    """A results file is not what the stage that reads it expects."""


class JournalError(GraceError):
    """The journal cannot be read or written: its volume is full, read-only or gone."""


class TrainingError(GraceError):
    """A training cannot begin with what it is given, or cannot go on."""


class BudgetError(GraceError):
    """A step of a recipe would be beyond its budget; nothing of it was started."""
