"""The only SQL and the only object files. Functions here take a transaction; services own it."""
