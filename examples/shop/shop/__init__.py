"""A shop that had a Celery app before it had workflows."""
