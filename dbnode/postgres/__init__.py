"""A shard's store in PostgreSQL, over txpostgres: private to a server, or in a database that many share."""
