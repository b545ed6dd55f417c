"""KServe's server with our own routes, their handling of bodies and errors, gRPC, access, the playground."""

HTTP_PORT, GRPC_PORT = 8080, 8081
"""Where KServe's server listens unless told otherwise; a cluster sends requests there."""
DEFAULT_BODY_BYTES = 32 * 2**20
"""Larger bodies are refused, on either host, unless another limit is given."""
