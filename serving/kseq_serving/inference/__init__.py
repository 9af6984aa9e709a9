"""What the methods of signatures do with examples: classify, regress, both; and the warm-up, which runs them."""
