/* Find the headers of a packet at tc ingress. Each step checks that what it reads lies in the packet. */
#ifndef IPVSCA_LAYERS_H
#define IPVSCA_LAYERS_H

#include "packet.h"
#include "state.h"

/* Beyond any that can be: two VLAN tags; four IPv6 extension headers of 2048 bytes. One less than a power of two. */
#define MAX_IP_OFFSET 0x1f
#define MAX_TRANSPORT_OFFSET 0x3fff

/* Where the headers of a packet begin: offsets from its first byte. */
struct layers {
	__u32 ip;
	__u32 transport;
	__u8 protocol; /* of the transport header: one that we look at */
	bool is_ipv6;
	bool is_fragment; /* one of several: what is behind IP is a part */
};

/*
 * The packet's first byte, and the one behind its last. Read in assembly: from C, clang handles them as numbers of 32 bits and
 * shifts them, which the verifier forbids for pointers.
 */
static __always_inline const void *header_at(struct __sk_buff *skb, __u32 offset)
{
	const void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(data) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return data + offset;
}

static __always_inline const void *end_of(struct __sk_buff *skb)
{
	const void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* Make the first `bytes` readable: some drivers leave part of the headers outside the linear data. */
static __always_inline bool readable(struct __sk_buff *skb, __u32 bytes)
{
	if (header_at(skb, bytes) <= end_of(skb))
		return true;
	return bytes <= skb->len && !bpf_skb_pull_data(skb, bytes);
}

/* The kernel has already taken the outermost tag into skb->vlan_tci; these are tags inside it. */
static __always_inline bool skip_vlan_tags(struct __sk_buff *skb, struct layers *layers, __be16 *ethertype)
{
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		const struct vlan *tag;

		if (*ethertype != bpf_htons(ETHERTYPE_VLAN) && *ethertype != bpf_htons(ETHERTYPE_QINQ))
			break;
		if (!readable(skb, layers->ip + sizeof(*tag)))
			return false;
		tag = header_at(skb, layers->ip);
		if ((const void *)(tag + 1) > end_of(skb))
			return false;
		*ethertype = tag->ethertype;
		layers->ip += sizeof(*tag);
	}
	return true;
}

static __always_inline bool find_transport_in_ipv4(struct __sk_buff *skb, struct layers *layers)
{
	const struct ipv4 *ip;

	if (!readable(skb, layers->ip + sizeof(*ip)))
		return false;
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb))
		return false;
	layers->protocol = ip->protocol;
	layers->transport = layers->ip + (ip->version_words & 0xf) * 4;
	layers->is_fragment = ip->fragment & bpf_htons((IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS));
	switch (ip->protocol) {
	case PROTOCOL_UDP:
		return ip->version_words > IPV4_WITHOUT_OPTIONS && ip->version_words <= IPV4_WITH_MOST_OPTIONS;
	case PROTOCOL_TCP:
		if (layers->is_fragment)
			count(COUNTER_refused_syn_fragment);
		return !layers->is_fragment;
	default: return ip->protocol == PROTOCOL_ICMP || ip->protocol == PROTOCOL_OPP;
	}
}

static __always_inline bool find_transport_in_ipv6(struct __sk_buff *skb, struct layers *layers)
{
	const struct ipv6 *ip;
	__u8 protocol;

	if (!readable(skb, layers->ip + sizeof(*ip)))
		return false;
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb))
		return false;
	layers->is_ipv6 = true;
	layers->transport = layers->ip + sizeof(*ip);
	protocol = ip->protocol;
	for (int i = 0; i < MAX_IPV6_EXTENSIONS && protocol != PROTOCOL_TCP && protocol != PROTOCOL_OPP; i++) {
		const struct ipv6_extension *extension;

		if (protocol != IPV6_HOP_BY_HOP && protocol != IPV6_ROUTING && protocol != IPV6_DESTINATION &&
		    protocol != IPV6_FRAGMENT)
			return false;
		if (!readable(skb, layers->transport + sizeof(*extension)))
			return false;
		extension = header_at(skb, layers->transport);
		if ((const void *)(extension + 1) > end_of(skb))
			return false;
		if (protocol != IPV6_FRAGMENT) {
			layers->transport += (extension->length + 1) * 8;
		} else if (!(extension->fragment & bpf_htons(IPV6_FRAGMENT_MASK))) {
			layers->transport += sizeof(*extension); /* "atomic": the only fragment of its packet */
		} else {
			if (extension->next == PROTOCOL_TCP)
				count(COUNTER_refused_syn_fragment);
			layers->protocol = extension->next;
			layers->is_fragment = true;
			return extension->next == PROTOCOL_OPP;
		}
		protocol = extension->next;
	}
	layers->protocol = protocol;
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_OPP;
}

/*
 * Fill the addresses, and the offset at which the IP packet ends by its own account. False where the addresses cannot be read,
 * or not be believed.
 */
static __always_inline bool read_addresses(struct __sk_buff *skb, const struct layers *layers, struct address *lip,
					   struct address *rip, __u32 *ip_end)
{
	if (layers->is_ipv6) {
		const struct ipv6 *ip = header_at(skb, layers->ip);

		if ((const void *)(ip + 1) > end_of(skb))
			return false;
		*lip = ip->source;
		*rip = ip->destination;
		*ip_end = layers->ip + sizeof(*ip) + bpf_ntohs(ip->length);
		return !is_mapped(&ip->source); /* a packet like this must not pass for one of IPv4 */
	}
	const struct ipv4 *ip = header_at(skb, layers->ip);

	if ((const void *)(ip + 1) > end_of(skb))
		return false;
	*lip = mapped(ip->source);
	*rip = mapped(ip->destination);
	*ip_end = layers->ip + bpf_ntohs(ip->length);
	return true;
}

/*
 * To the verifier an offset looks the same afterwards on whatever way it was found, so that the walk over the options is checked
 * once and not once for each way: 30 times less.
 */
static __always_inline void forget_the_way(struct __sk_buff *skb, struct layers *layers)
{
	layers->ip = (layers->ip + UNKNOWN_ZERO(skb->len)) & MAX_IP_OFFSET;
	layers->transport = (layers->transport + UNKNOWN_ZERO(skb->len)) & MAX_TRANSPORT_OFFSET;
}

#endif
