"""What flows between user code and the records: inputs, configs, outputs and suspended states."""
