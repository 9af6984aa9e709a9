"""Requests run together."""
