"""Values as JSON text: what may be stored, what comes back as it was, and what must not be shown.

Knows nothing of stages, runs or databases.
"""
