"""The contract toolchain: contracts agree with their tables and stay compatible; new event types from templates."""
