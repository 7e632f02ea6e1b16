"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy with much else takes long for one example, which is no fault.
settings.register_profile("grace", deadline=None)
settings.load_profile("grace")
