"""Predict, Classify, Regress and MultiInference on a loaded version, and the warm-up, which replays all four."""
