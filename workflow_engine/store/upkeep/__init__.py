"""What the sweep, retention and the doctor look for."""
