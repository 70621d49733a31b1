/*
 * UOA, with which DPVS tells the client in a UDP datagram: as an IPv4 option (ipo), or in a header between IP and UDP (opp).
 * Bytes of a packet in; client, flow or verdict out. No map, no helper call. The reference is ipvsca/wire/uoa.py, where the
 * formats are drawn.
 */
#ifndef IPVSCA_UOA_H
#define IPVSCA_UOA_H

#include "packet.h"
#include "toa.h"
#include "types.h"

#define UOA_KIND 0x9f
#define OPP_IPV4 0x10
#define OPP_IPV6 0x20

/* The members and their meaning are those of Verdict in ipvsca/wire/uoa.py. The first five are enum toa_verdict's. */
enum uoa_verdict {
	UOA_FOUND,
	UOA_ABSENT,
	UOA_MALFORMED,
	UOA_LENGTH,
	UOA_CLIENT,
	UOA_CHECKSUM,
	UOA_FRAGMENT,
};

struct opp {
	__u8 version; /* high nibble: OPP_IPV4 or OPP_IPV6; low nibble: 0 */
	__u8 protocol; /* of what follows: UDP */
	__be16 length; /* of this header and its option */
	__u8 kind; /* here the option begins */
	__u8 size;
};

#define OPP_FIXED offsetof(struct opp, kind)

/* Fills address and port of `client` where the verdict is UOA_FOUND. The header has options, as `version_words` says. */
static __always_inline enum uoa_verdict ipo_parse(const struct ipv4 *ip, const void *end, struct client *client)
{
	if ((const void *)(ip + 1) > end)
		return UOA_MALFORMED;
	return (enum uoa_verdict)options_parse((const __u8 *)(ip + 1), (ip->version_words & 0xf) * 4 - sizeof(*ip), end,
					       UOA_KIND, 0, client);
}

/* Fills address and port of `client`, and the length of this header, where the verdict is UOA_FOUND. */
static __always_inline enum uoa_verdict opp_parse(const struct opp *opp, const void *end, struct client *client,
						  __u32 *length)
{
	if ((const void *)(opp + 1) > end)
		return UOA_MALFORMED;
	if ((opp->version != OPP_IPV4 && opp->version != OPP_IPV6) || opp->protocol != PROTOCOL_UDP ||
	    opp->kind != UOA_KIND)
		return UOA_MALFORMED;
	*length = OPP_FIXED + opp->size;
	if ((opp->size != TOA_LENGTH_IPV4 && opp->size != TOA_LENGTH_IPV6) || opp->length != bpf_htons(*length))
		return UOA_LENGTH;
	return (enum uoa_verdict)toa_read(&opp->kind, end, client);
}

/* Fill the rest of a flow that has its addresses. `room` is how many bytes IP has left for the datagram. False where it does not fit. */
static __always_inline bool read_ports(const struct udp *udp, __u32 room, bool is_fragment, struct flow *flow)
{
	__u32 length = bpf_ntohs(udp->length);

	if (length < sizeof(*udp) || (length > room && !is_fragment) || !udp->source || !udp->destination)
		return false;
	flow->lport = udp->source;
	flow->rport = udp->destination;
	flow->protocol = PROTOCOL_UDP;
	return true;
}

/* Make it the IP header of what remains when `length` bytes behind it are taken away: a UDP datagram. */
static __always_inline void mend(union ip_header *ip, bool is_ipv6, __u32 length)
{
	if (is_ipv6) {
		ip->v6.protocol = PROTOCOL_UDP;
		ip->v6.length = bpf_htons(bpf_ntohs(ip->v6.length) - length);
		return;
	}
	ip->v4.protocol = PROTOCOL_UDP;
	ip->v4.length = bpf_htons(bpf_ntohs(ip->v4.length) - length);
	ip->v4.checksum = 0;
	ip->v4.checksum = ~sum_of(ip, 0, IP_HEADER_WORDS);
}

#endif
