"""Everything that writes a stage run or run while it is executed: claims, leases, moves, outcomes."""
