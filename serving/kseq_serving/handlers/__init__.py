"""What a server can be asked, whatever the protocol."""
