"""How fast Grace is, measured beside what it is compared with: `make bench`.

Systems take turns, several times over; tokenising counts, loading a model does not. What a system
answers is checked after every run, so that no one is fast by measuring something else.
"""
