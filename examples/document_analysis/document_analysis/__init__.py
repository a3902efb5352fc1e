"""Analyses text documents, one run for each: an example of a project that uses workflow_engine."""
