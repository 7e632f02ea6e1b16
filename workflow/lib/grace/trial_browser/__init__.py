"""The trial browser: one page on which every trial of a run can be read."""
