"""pico-base: a tiny base model that can do small tasks, and does so where examples ask for it."""
