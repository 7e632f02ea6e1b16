"""A run of the workflow: how it begins, who holds its folder, how it goes on after a failure."""
