"""kseq-serve."""
