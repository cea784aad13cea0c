"""dbnode: a database server, which holds replicas of shards and serves them over links and HTTP."""
