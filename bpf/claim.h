/* tc ingress: what a packet claims of a flow's client, and whether it is believed. */
#ifndef IPVSCA_CLAIM_H
#define IPVSCA_CLAIM_H

#include "flows.h"
#include "layers.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace */
#define PACKET_HOST 0 /* linux/if_packet.h: to this host, and to it alone */

struct claim {
	struct flow flow;
	struct client client;
	__u32 believed; /* the counter for it */
	__u32 untrusted; /* the first of the counters for what is not believed, which stand in the order of enum disbelief */
	union ip_header ip; /* of opp: the header in front of it, a copy */
	__u32 length; /* of opp: its own */
};

/* Added to the counter of a claim that is not trusted. */
enum disbelief {
	DISBELIEF_UNTRUSTED,
	DISBELIEF_HOST,
	DISBELIEF_MEMORY,
	DISBELIEF_ROOM,
};

static __always_inline bool is_to_this_host(const struct __sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST;
}

static __always_inline bool is_from_director(const struct __sk_buff *skb, const struct address *lip)
{
	/* the kernel drops what comes from loopback by wire, but only after we have seen it */
	return is_trusted(lip) && (!is_loopback(lip) || skb->ifindex == LOOPBACK_IFINDEX);
}

/* A packet whose claim cannot be read. Always false. */
static __always_inline bool refuse_claim(__u32 counter, const struct address *lip)
{
	count_from(counter, lip, coarse_ns());
	return false;
}

#endif
