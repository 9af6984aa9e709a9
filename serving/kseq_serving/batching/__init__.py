"""Runs of several requests as one batch."""
