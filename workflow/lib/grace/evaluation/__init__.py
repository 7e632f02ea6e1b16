"""Whether answers do what instructions ask. Nothing that trains imports any of it."""
