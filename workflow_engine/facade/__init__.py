"""What applications call: make runs, steer them, read them, execute them in this process."""
