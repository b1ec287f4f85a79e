"""Owns every thread, child process and signal: startup -> loop -> shutdown."""
