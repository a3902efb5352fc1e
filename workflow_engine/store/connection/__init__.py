"""The connection to the database: transactions, time limits, and what an error of the driver means."""
