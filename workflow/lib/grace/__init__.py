"""Grace: pragmatics experiments on language models, from stimuli to a report."""

__version__ = "0.1.0"
