"""The HTTP API: routes decode, make one call, encode."""
