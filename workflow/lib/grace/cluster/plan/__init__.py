"""What is asked of a cluster: GPUs, pods, its policy. Pure; knows nothing of `run`."""
