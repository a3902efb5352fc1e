"""What a worker process does besides its tasks: start, sweep, see children die, shut down."""
