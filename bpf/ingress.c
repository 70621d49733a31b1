/* tc ingress: keep the client that a SYN's option tells until the handshake ends. Every packet goes on untouched. */
#include "packet.h"
#include "state.h"
#include "toa.h"

#ifndef TC_ACT_UNSPEC
#define TC_ACT_UNSPEC (-1) /* not the last word: other filters on this interface still decide */
#endif

/* Beyond any that can be: two VLAN tags; four IPv6 extension headers of 2048 bytes. One less than a power of two. */
#define MAX_IP_OFFSET 0x1f
#define MAX_TCP_OFFSET 0x3fff

/* Where the headers of a packet begin: offsets from its first byte. */
struct layers {
	__u32 ip;
	__u32 tcp;
	bool is_ipv6;
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

static __always_inline bool find_tcp_in_ipv4(struct __sk_buff *skb, struct layers *layers)
{
	const struct ipv4 *ip;

	if (!readable(skb, layers->ip + sizeof(*ip)))
		return false;
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb) || ip->protocol != PROTOCOL_TCP)
		return false;
	if (ip->fragment & bpf_htons(IPV4_FRAGMENT_MASK)) {
		count(COUNTER_refused_syn_fragment);
		return false;
	}
	layers->tcp = layers->ip + (ip->version_words & 0xf) * 4;
	return true;
}

static __always_inline bool find_tcp_in_ipv6(struct __sk_buff *skb, struct layers *layers)
{
	const struct ipv6 *ip;
	__u8 protocol;

	if (!readable(skb, layers->ip + sizeof(*ip)))
		return false;
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb))
		return false;
	layers->is_ipv6 = true;
	layers->tcp = layers->ip + sizeof(*ip);
	protocol = ip->protocol;
	for (int i = 0; i < MAX_IPV6_EXTENSIONS && protocol != PROTOCOL_TCP; i++) {
		const struct ipv6_extension *extension;

		if (protocol != IPV6_HOP_BY_HOP && protocol != IPV6_ROUTING && protocol != IPV6_DESTINATION &&
		    protocol != IPV6_FRAGMENT)
			return false;
		if (!readable(skb, layers->tcp + sizeof(*extension)))
			return false;
		extension = header_at(skb, layers->tcp);
		if ((const void *)(extension + 1) > end_of(skb))
			return false;
		if (protocol != IPV6_FRAGMENT) {
			layers->tcp += (extension->length + 1) * 8;
		} else if (!(extension->fragment & bpf_htons(IPV6_FRAGMENT_MASK))) {
			layers->tcp += sizeof(*extension); /* "atomic": the only fragment of its packet */
		} else {
			if (extension->next == PROTOCOL_TCP)
				count(COUNTER_refused_syn_fragment);
			return false;
		}
		protocol = extension->next;
	}
	return protocol == PROTOCOL_TCP;
}

static __always_inline bool is_syn(struct __sk_buff *skb, const struct layers *layers)
{
	const struct tcp *tcp;

	if (!readable(skb, layers->tcp + sizeof(*tcp)))
		return false;
	tcp = header_at(skb, layers->tcp);
	if ((const void *)(tcp + 1) > end_of(skb))
		return false;
	return (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Fill the addresses; give the offset at which the IP packet ends by its own account, 0 where it cannot be read. */
static __always_inline __u32 read_addresses(struct __sk_buff *skb, const struct layers *layers,
					    struct handshake *handshake)
{
	if (layers->is_ipv6) {
		const struct ipv6 *ip = header_at(skb, layers->ip);

		if ((const void *)(ip + 1) > end_of(skb))
			return 0;
		handshake->lip = ip->source;
		handshake->rip = ip->destination;
		return layers->ip + sizeof(*ip) + bpf_ntohs(ip->length);
	}
	const struct ipv4 *ip = header_at(skb, layers->ip);

	if ((const void *)(ip + 1) > end_of(skb))
		return 0;
	handshake->lip = mapped(ip->source);
	handshake->rip = mapped(ip->destination);
	return layers->ip + bpf_ntohs(ip->length);
}

/*
 * 0, but not to the verifier (skb->len, minus what is read from there once more). An offset with it added looks the same on
 * whatever way it was found, so that the walk over the options is checked once and not once for each way: 30 times less.
 */
static __always_inline __u32 unknown_zero(struct __sk_buff *skb)
{
	return *(volatile __u32 *)&skb->len - *(volatile __u32 *)&skb->len;
}

static __always_inline void refuse_syn(enum refusal refusal, const struct handshake *handshake)
{
	count_from(COUNTER_refused_syn_malformed + refusal, &handshake->lip, bpf_ktime_get_ns());
}

static __always_inline void keep_client_of_syn(struct __sk_buff *skb, const struct layers *layers)
{
	const struct settings *settings = current_settings();
	struct client client = { .learnt_from = LEARNT_FROM_SYN };
	struct handshake handshake;
	enum toa_verdict verdict;
	const struct tcp *tcp;
	__u32 ip_end, header;

	tcp = header_at(skb, layers->tcp);
	if (!settings || (const void *)(tcp + 1) > end_of(skb))
		return;
	header = tcp_words(tcp) * 4;
	if (header == sizeof(*tcp))
		return; /* no options */
	readable(skb, layers->tcp + header); /* where it is not, toa_parse says so */

	ip_end = read_addresses(skb, layers, &handshake);
	tcp = header_at(skb, layers->tcp);
	if (!ip_end || (const void *)(tcp + 1) > end_of(skb))
		return;
	handshake.lport = tcp->source;
	handshake.rport = tcp->destination;
	handshake.isn = bpf_ntohl(tcp->sequence);

	verdict = toa_parse(tcp, end_of(skb), settings, &client);
	if (layers->tcp + header > ip_end)
		verdict = TOA_MALFORMED;
	if (verdict == TOA_ABSENT)
		return;
	if (verdict != TOA_FOUND)
		return refuse_syn(refusal_of(verdict), &handshake);
	if (!is_trusted(&handshake.lip))
		return refuse_syn(REFUSED_UNTRUSTED, &handshake);
	client.learnt_ns = bpf_ktime_get_ns();
	if (handshakes.update(&handshake, &client))
		return refuse_syn(REFUSED_MEMORY, &handshake);
	count_from(COUNTER_syn_learnt, &handshake.lip, client.learnt_ns);
}

static __always_inline void ingress(struct __sk_buff *skb, struct layers *layers, __be16 ethertype)
{
	bool is_tcp = false;

	if (ethertype == bpf_htons(ETHERTYPE_IPV4))
		is_tcp = find_tcp_in_ipv4(skb, layers);
	else if (ethertype == bpf_htons(ETHERTYPE_IPV6))
		is_tcp = find_tcp_in_ipv6(skb, layers);
	if (!is_tcp || !is_syn(skb, layers))
		return;
	layers->ip = (layers->ip + unknown_zero(skb)) & MAX_IP_OFFSET;
	layers->tcp = (layers->tcp + unknown_zero(skb)) & MAX_TCP_OFFSET;
	keep_client_of_syn(skb, layers);
}

/* For devices whose packets begin with an Ethernet header. */
int ipvsca_eth(struct __sk_buff *skb)
{
	struct layers layers = { .ip = ETHERNET_HEADER };
	__be16 ethertype = skb->protocol;

	if (skip_vlan_tags(skb, &layers, &ethertype))
		ingress(skb, &layers, ethertype);
	return TC_ACT_UNSPEC;
}

/* For devices whose packets begin with the IP header: tun, ipip, gre, WireGuard, ppp. */
int ipvsca_ip(struct __sk_buff *skb)
{
	struct layers layers = {};

	ingress(skb, &layers, skb->protocol);
	return TC_ACT_UNSPEC;
}
