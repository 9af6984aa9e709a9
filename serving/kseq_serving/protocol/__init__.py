"""What goes over the wire: messages, tensors, dtypes and signatures."""
