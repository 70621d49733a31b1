"""ipvsca: the client's address behind a FULLNAT load balancer, restored with eBPF."""

__version__ = "0.1.0"
