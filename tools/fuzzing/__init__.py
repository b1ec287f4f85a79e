"""Hostile inputs for everything of edgeq that reads bytes from outside."""
