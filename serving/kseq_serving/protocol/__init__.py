"""Messages, tensors and dtypes as they are sent."""
