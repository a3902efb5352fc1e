"""What follows from an outcome inside of one transaction: the moves of a stage run, its group and its run."""
