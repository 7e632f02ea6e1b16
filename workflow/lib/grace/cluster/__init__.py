"""Kubernetes: `plan` decides what is asked of a cluster, and `run` asks it."""
