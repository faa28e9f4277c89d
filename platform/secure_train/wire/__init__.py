"""The messages of the REST API: what the server answers and what clients send, shared by both."""
