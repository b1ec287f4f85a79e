"""What a user would pick instead, each in a module of its own that is only imported in a child."""


class Absent(Exception):
    """A peer that cannot run here, and why."""
