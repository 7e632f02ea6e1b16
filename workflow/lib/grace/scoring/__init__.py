"""Exact answer distributions: which tokens to read where, and what the reads mean.

Pure: no torch, no network, no engine. `joining` makes token sequences of prompts and options,
`forest` shares what they have in common, `packing` fits forests into forward passes, `records`
turns log-probabilities into records.
"""
