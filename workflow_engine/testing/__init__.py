"""What tests of workflows need: real servers as pytest fixtures, and a kit that runs workflows step by step."""
