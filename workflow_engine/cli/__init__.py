"""The command line: ``workflow-engine``, and ``celery -A app workflow`` for those who have a Celery app."""
