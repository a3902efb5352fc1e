"""One hint from its claim to its recorded outcome, with the calls of user code in between."""
