"""A run's results as other tools read them: Inspect, Every Eval Ever, Psych-DS (docs/export.md).

Pure functions of the results' own tables and records; nothing here is needed by a run.
"""
