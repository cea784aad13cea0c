"""The client that a database server publishes for those who talk to it: balancers and other servers."""
