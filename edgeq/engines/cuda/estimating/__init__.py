"""A launch and a board -> how long it may take, and what binds it."""
