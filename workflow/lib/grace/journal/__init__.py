"""Every answer a model has given, on disk within a fraction of a second, for good.

docs/journal.md says why it is files of lines and not a database. `python -m grace.journal` shows
and compacts one.
"""

from grace.journal.store import Journal

__all__ = ["Journal"]
