"""The two twistd commands; the services live in the modules named, which are imported only when run."""

from twisted.application.service import ServiceMaker

shardlb = ServiceMaker(
    "shardlb balancer",
    "lbnode.tap",
    "The balancer: HTTP/JSON in front, shards replicated by Raft behind.",
    "shardlb",
)
dbnode = ServiceMaker(
    "shardlb database server",
    "dbnode.tap",
    "A database server: replicas of shards over a store, replicated by Raft.",
    "dbnode",
)
