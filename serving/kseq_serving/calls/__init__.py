"""What a server can be asked: predict, classify, regress and the rest, whatever the protocol."""
