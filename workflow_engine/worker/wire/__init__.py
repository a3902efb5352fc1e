"""Hints on the broker: how messages look, where they go, and what a consumer outlives."""
