"""A FULLNAT load balancer, its clients and its real servers in network namespaces of this machine."""
