"""Stages in order: the builder with its checks, the plan that a run keeps, config and registry."""
