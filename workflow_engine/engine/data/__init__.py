"""The values that pass between user code and the records: inputs, outputs and the results of runs."""
