"""What one process has to execute with: its identity, leases, body threads and loops, and its way to the broker."""
