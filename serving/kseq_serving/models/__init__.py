"""Models and their versions: found, loaded, run, and unloaded."""
