"""The write-ahead log that all groups of a process share."""
