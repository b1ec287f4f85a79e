"""Two models, a table and a few inputs -> what each tensor is like and what each op costs."""
