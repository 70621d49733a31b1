/* tc ingress: read the client that a UDP datagram tells by UOA. ipo goes on as it is; of opp the kernel gets the plain datagram. */
#ifndef IPVSCA_DATAGRAM_H
#define IPVSCA_DATAGRAM_H

#include "claim.h"
#include "uoa.h"

/*
 * How long the IP header is, in bytes: where it is IPv4's a multiple of 4 up to 60 anyway, as the mask says. The verifier of Linux
 * 6.1 takes one bound from it, and the other one from a test behind it.
 */
static __always_inline __u64 header_length(const struct layers *layers)
{
	__u64 length = (layers->transport - layers->ip) & sizeof(union ip_header);

	FORGET_ORIGIN(length);
	return length;
}

/* False where not all of it is there, or extension headers follow. */
static __always_inline bool copy_ip_header(struct __sk_buff *skb, const struct layers *layers, union ip_header *ip)
{
	__u64 length = header_length(layers);

	if (layers->is_ipv6 && layers->transport - layers->ip != sizeof(ip->v6))
		return false;
	return length >= sizeof(ip->v4) && !bpf_skb_load_bytes(skb, layers->ip, ip, length);
}

/* Fill the flow of the datagram that begins at `at`, in an IP packet that ends at `ip_end`. False where it is not all there. */
static __always_inline bool read_flow(struct __sk_buff *skb, const struct layers *layers, __u32 at, __u32 ip_end,
				      struct flow *flow)
{
	struct udp udp;

	return ip_end <= skb->len && at + sizeof(udp) <= ip_end && !bpf_skb_load_bytes(skb, at, &udp, sizeof(udp)) &&
	       read_ports(&udp, ip_end - at, layers->is_fragment, flow);
}

/* False where there is no ipo, or not a right one. */
static __always_inline bool read_ipo(struct __sk_buff *skb, const struct layers *layers, struct claim *claim)
{
	struct flow *flow = &claim->flow;
	enum uoa_verdict verdict;
	const struct ipv4 *ip;
	__u32 ip_end = 0;

	readable(skb, layers->transport); /* where it is not, ipo_parse says so */
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb) || ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return false; /* a later fragment has no UDP header, and the option only because it is copied into all */
	verdict = ipo_parse(ip, end_of(skb), &claim->client);
	if (verdict == UOA_ABSENT)
		return false;
	if (!read_addresses(skb, layers, &flow->lip, &flow->rip, &ip_end))
		return false;
	if (!copy_ip_header(skb, layers, &claim->ip))
		verdict = UOA_MALFORMED;
	else if (!sum_is_right(&claim->ip, 0, IP_HEADER_WORDS))
		verdict = UOA_CHECKSUM;
	else if (verdict == UOA_FOUND && !read_flow(skb, layers, layers->transport, ip_end, flow))
		verdict = UOA_MALFORMED;
	if (verdict != UOA_FOUND)
		return refuse_claim(COUNTER_refused_ipo_malformed + verdict - UOA_MALFORMED, &flow->lip);
	claim->client.learnt_from = LEARNT_FROM_IPO;
	claim->believed = COUNTER_ipo_learnt;
	claim->untrusted = COUNTER_refused_ipo_untrusted;
	return true;
}

/* False where there is no opp, or not a right one. */
static __always_inline bool read_opp(struct __sk_buff *skb, const struct layers *layers, struct claim *claim)
{
	__u32 reach = layers->transport + OPP_FIXED + TOA_LENGTH_IPV6;
	struct flow *flow = &claim->flow;
	enum uoa_verdict verdict;
	const __u8 *version;
	bool is_believable;
	__u32 ip_end = 0;

	readable(skb, skb->len < reach ? skb->len : reach); /* where it is not, opp_parse says so */
	version = header_at(skb, layers->ip);
	if ((const void *)(version + 1) > end_of(skb) || *version >> 4 != (layers->is_ipv6 ? 6 : 4))
		return false;
	is_believable = read_addresses(skb, layers, &flow->lip, &flow->rip, &ip_end);
	if (layers->is_fragment)
		verdict = UOA_FRAGMENT;
	else if (!is_believable || !copy_ip_header(skb, layers, &claim->ip))
		verdict = UOA_MALFORMED;
	else if (!layers->is_ipv6 && !sum_is_right(&claim->ip, 0, IP_HEADER_WORDS))
		verdict = UOA_CHECKSUM;
	else
		verdict = opp_parse(header_at(skb, layers->transport), end_of(skb), &claim->client, &claim->length);
	if (verdict == UOA_FOUND && !read_flow(skb, layers, layers->transport + claim->length, ip_end, flow))
		verdict = UOA_MALFORMED;
	if (verdict != UOA_FOUND)
		return refuse_claim(COUNTER_refused_opp_malformed + verdict - UOA_MALFORMED, &flow->lip);
	claim->client.learnt_from = LEARNT_FROM_OPP;
	claim->believed = COUNTER_opp_learnt;
	claim->untrusted = COUNTER_refused_opp_untrusted;
	return true;
}

/*
 * Take the `length` bytes of the opp header away. Not 0 where the kernel does not: then the packet is as it was. The IP header
 * is written last, and cannot fail: all that it needs to be is made linear and writable before.
 */
static __always_inline long take_opp_away(struct __sk_buff *skb, const struct layers *layers, union ip_header *ip,
					  __u32 length)
{
	__u64 header = header_length(layers);

	if (header < sizeof(ip->v4) || bpf_skb_pull_data(skb, layers->transport + length))
		return -1;
	mend(ip, layers->is_ipv6, length);
	if (bpf_skb_adjust_room(skb, -(__s32)length, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	/* at least 20 it is, but the verifier of Linux 5.10 has lost that bound on the way here */
	asm volatile("if %0 > 19 goto +1\n\t%0 = 20" : "+r"(header));
	return bpf_skb_store_bytes(skb, layers->ip, ip, header, BPF_F_RECOMPUTE_CSUM);
}

#endif
