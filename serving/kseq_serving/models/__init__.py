"""Configuration, version folders, loading, sessions and unloading of models."""
