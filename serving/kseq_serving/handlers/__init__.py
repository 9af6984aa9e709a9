"""Handlers of requests, independent of the protocol."""
