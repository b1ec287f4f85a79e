"""Numbers -> pictures: SVG made here, which needs neither scripts nor other files."""
