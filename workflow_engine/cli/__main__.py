"""``python -m workflow_engine.cli``: the command where its script is not on the path."""

from __future__ import annotations

from workflow_engine.cli.main import main

if __name__ == "__main__":
    main()
