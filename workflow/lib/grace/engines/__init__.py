"""Engines: what computes tokens. Each is a folder with an `engine.py` (`grace.engines.spec`).

What engines share lies beside the folders, and in `http/` what talks to servers.
"""
