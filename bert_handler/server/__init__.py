"""What KServe's server is extended with: routes, their handling of bodies and errors, gRPC, access, the playground."""
