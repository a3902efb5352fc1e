"""The room that says Celery, kombu and Redis: it carries hints to workers and lets workers call the engine.

Tasks are a few lines each; everything that decides or writes is the engine's. Nothing here is needed for
correctness: a message that is lost, doubled, late or forged changes only when a stage runs, never whether or how often
its result counts.
"""
