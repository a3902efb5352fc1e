"""The tables, the types of their columns, and the revisions that bring a database up to date."""
