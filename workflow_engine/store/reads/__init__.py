"""Questions of callers and of the engine to the records, answered with frozen values."""
