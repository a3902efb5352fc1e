"""One stage: its body and options, the types that its annotations name, and what it may return."""
