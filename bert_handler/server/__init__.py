"""KServe's server with our own routes, their handling of bodies and errors, gRPC, access, the playground."""

DEFAULT_BODY_BYTES = 32 * 2**20
"""Larger bodies are refused, on either host, unless another limit is given."""
