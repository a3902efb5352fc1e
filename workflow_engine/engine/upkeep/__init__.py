"""What no message asks for: the sweep with everything that it repairs, retention, and the doctor."""
