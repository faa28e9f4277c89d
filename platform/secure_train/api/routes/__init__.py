"""The routes of the REST API, one module per domain. Each is thin: parse, call a service, show the answer."""
