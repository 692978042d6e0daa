"""A stand-in for Google's Pub/Sub emulator: its rules, and its gRPC server."""
