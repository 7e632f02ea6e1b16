"""Kubernetes: GPU tags, pods, a cluster's policy, and the executor. Knows nothing of engines."""
