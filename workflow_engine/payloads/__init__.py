"""Values as JSON text: which ones can be stored, how they are read back unchanged, and how secrets are hidden.

Knows nothing of stages, runs or databases.
"""
