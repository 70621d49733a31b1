/* tc ingress: whether a packet may tell a client. */
#ifndef IPVSCA_DIRECTOR_H
#define IPVSCA_DIRECTOR_H

#include "state.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace */
#define PACKET_HOST 0 /* linux/if_packet.h: to this host, and to it alone */

static __always_inline bool is_to_this_host(const struct __sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST;
}

static __always_inline bool is_from_director(const struct __sk_buff *skb, const struct address *lip)
{
	/* the kernel drops what comes from loopback by wire, but only after we have seen it */
	return is_trusted(lip) && (!is_loopback(lip) || skb->ifindex == LOOPBACK_IFINDEX);
}

#endif
