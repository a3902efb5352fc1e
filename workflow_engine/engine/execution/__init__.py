"""One hint, from the claim of its stage run through the calls of user code to the recorded outcome."""
