"""What tests of workflows need: real servers as pytest fixtures."""
