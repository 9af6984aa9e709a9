"""kseq."""
