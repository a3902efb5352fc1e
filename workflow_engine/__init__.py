"""Durable, typed, staged workflows inside the Celery, Redis and SQL database that a team already runs."""

__all__: list[str] = []
