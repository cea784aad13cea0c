"""lbnode: the balancer, the one door that clients talk to."""
