"""The store as files that people can read and repair: a database in memory whose commits reach disk."""
