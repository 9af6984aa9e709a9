"""REST API, its JSON, and the playground."""
