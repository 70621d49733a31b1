/*
 * tc ingress: learn clients from SYNs, announcements and UDP datagrams. Every packet goes on, and untouched but for opp's header,
 * which the kernel does not know.
 */
#include "announced.h"
#include "datagram.h"
#include "layers.h"
#include "syn.h"

#ifndef TC_ACT_UNSPEC
#define TC_ACT_UNSPEC (-1) /* not the last word: other filters on this interface still decide */
#endif

/*
 * Whether this is one of the many packets that tell nothing: IP without options or extensions, then UDP, or TCP after the SYN. The
 * general way finds the same, in three times the instructions; so false is no promise.
 */
static __always_inline bool tells_nothing(struct __sk_buff *skb, __u32 at)
{
	const void *ip = header_at(skb, at), *end = end_of(skb);
	const struct ipv4 *v4 = ip;
	const struct ipv6 *v6 = ip;
	const struct tcp *tcp;
	__u8 protocol;

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		tcp = ip + sizeof(*v4);
		if ((const void *)tcp > end || v4->version_words != IPV4_WITHOUT_OPTIONS)
			return false;
		protocol = v4->protocol;
		if (protocol == PROTOCOL_TCP && v4->fragment & bpf_htons((IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS)))
			return false;
	} else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		tcp = ip + sizeof(*v6);
		if ((const void *)tcp > end)
			return false;
		protocol = v6->protocol;
	} else {
		return false;
	}
	if (protocol != PROTOCOL_TCP)
		return protocol == PROTOCOL_UDP;
	return (const void *)(tcp + 1) <= end && !opens(tcp);
}

/* Keep the client that a packet claims for its flow, where it is to be believed. Gives the counter of what was done. */
static __always_inline __u32 judge(struct __sk_buff *skb, const struct layers *layers, const struct settings *settings,
				   struct claim *claim)
{
	if (!is_to_this_host(skb))
		return claim->untrusted + DISBELIEF_HOST;
	if (!is_from_director(skb, &claim->flow.lip))
		return claim->untrusted + DISBELIEF_UNTRUSTED;
	if (layers->protocol == PROTOCOL_OPP && take_opp_away(skb, layers, &claim->ip, claim->length))
		return claim->untrusted + DISBELIEF_ROOM;
	if (learn_flow(&claim->flow, &claim->client, timeout_of(claim->flow.protocol, settings)))
		return claim->untrusted + DISBELIEF_MEMORY;
	return claim->believed;
}

static __always_inline void learn(struct __sk_buff *skb, const struct layers *layers)
{
	const struct settings *settings = current_settings();
	struct claim claim = {};
	bool is_claimed;

	if (!settings)
		return;
	if (layers->protocol == PROTOCOL_ICMP)
		is_claimed = read_announcement(skb, layers, settings, &claim);
	else if (layers->protocol == PROTOCOL_UDP)
		is_claimed = read_ipo(skb, layers, &claim);
	else
		is_claimed = read_opp(skb, layers, &claim);
	if (!is_claimed)
		return;
	claim.client.learnt_ns = coarse_ns();
	count_from(judge(skb, layers, settings, &claim), &claim.flow.lip, claim.client.learnt_ns);
}

static __always_inline void ingress(struct __sk_buff *skb, struct layers *layers, __be16 ethertype)
{
	bool is_ours = false;

	if (ethertype == bpf_htons(ETHERTYPE_IPV4))
		is_ours = find_transport_in_ipv4(skb, layers);
	else if (ethertype == bpf_htons(ETHERTYPE_IPV6))
		is_ours = find_transport_in_ipv6(skb, layers);
	if (!is_ours || (layers->protocol == PROTOCOL_TCP && !is_syn(skb, layers)))
		return;
	forget_the_way(skb, layers);
	if (layers->protocol == PROTOCOL_TCP)
		keep_client_of_syn(skb, layers);
	else
		learn(skb, layers);
}

/* For devices whose packets begin with an Ethernet header. */
int ipvsca_eth(struct __sk_buff *skb)
{
	struct layers layers = { .ip = ETHERNET_HEADER };
	__be16 ethertype = skb->protocol;

	if (!tells_nothing(skb, ETHERNET_HEADER) && skip_vlan_tags(skb, &layers, &ethertype))
		ingress(skb, &layers, ethertype);
	return TC_ACT_UNSPEC;
}

/* For devices whose packets begin with the IP header: tun, ipip, gre, WireGuard, ppp. */
int ipvsca_ip(struct __sk_buff *skb)
{
	struct layers layers = {};

	if (!tells_nothing(skb, 0))
		ingress(skb, &layers, skb->protocol);
	return TC_ACT_UNSPEC;
}
