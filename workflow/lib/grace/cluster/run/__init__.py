"""What talks to a cluster and to Snakemake: the executor, its Jobs, the API, storage."""
