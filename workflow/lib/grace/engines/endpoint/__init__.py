"""A server that someone else runs."""
