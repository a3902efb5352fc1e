"""The resources of one process: its identity, leases, threads and event loops for bodies, and its way to the broker."""
