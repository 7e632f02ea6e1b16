"""What a user may write, checked, and the project that it makes."""
