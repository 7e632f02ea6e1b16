"""The two experiments: which trial is asked when, what is asked, and a whole job of it."""
