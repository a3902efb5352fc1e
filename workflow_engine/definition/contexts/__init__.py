"""What bodies, polls and cancel hooks are given, and the port by which the engine serves it."""
