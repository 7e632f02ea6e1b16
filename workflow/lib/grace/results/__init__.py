"""From records to tables, and the checks on them."""
