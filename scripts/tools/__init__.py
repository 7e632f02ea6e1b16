"""Commands that people type and no rule calls. Those that measure are in `bench`."""
