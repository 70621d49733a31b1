/*
 * Headers of a packet at tc ingress. A cursor is an offset from the packet's first byte; each step checks that what it reads
 * lies in the packet, and says false where it does not. No map.
 */
#ifndef IPVSCA_PACKET_H
#define IPVSCA_PACKET_H

#include "types.h"

#define ETHERNET_HEADER 14
#define MAX_VLAN_TAGS 2
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_OPP 248 /* UOA in a header of its own */

#define ICMP_ECHO_REQUEST 8

#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DESTINATION 60
#define MAX_IPV6_EXTENSIONS 4

#define IPV4_WITHOUT_OPTIONS 0x45
#define IPV4_WITH_MOST_OPTIONS 0x4f
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_FRAGMENT_MASK 0xfff9

/* Options have one grammar in TCP's header and in IPv4's. */
#define MAX_OPTIONS 40
#define OPTION_END_OF_LIST 0
#define OPTION_NO_OPERATION 1

#define TCP_MIN_WORDS 5
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct vlan {
	__be16 tci;
	__be16 ethertype; /* of what follows */
};

struct ipv4 {
	__u8 version_words; /* high nibble: 4; low nibble: this header's length in words of 4 bytes */
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6 {
	__be32 version_class_label;
	__be16 length;
	__u8 protocol;
	__u8 hop_limit;
	struct address source;
	struct address destination;
};

/* As much of an IP header as is kept: extension headers of IPv6 are not. What is behind a shorter header is 0. */
union ip_header {
	struct ipv4 v4;
	struct ipv6 v6;
	__be16 words[(sizeof(struct ipv4) + MAX_OPTIONS) / 2];
};

#define IP_HEADER_WORDS (sizeof(union ip_header) / 2)

/* The first 8 bytes of an extension header; `length` and `fragment` mean something only in those that have them. */
struct ipv6_extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first 8 */
	__be16 fragment;
	__be32 rest;
};

struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

struct udp {
	__be16 source;
	__be16 destination;
	__be16 length; /* of this header and its data */
	__be16 checksum;
};

struct tcp {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledgement;
	__u8 words_reserved; /* high nibble: this header's length in words of 4 bytes */
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

/* The internet checksum (RFC 1071) of a header's words `from` to `to`, not inverted: all bits are set where one of them is right. */
static __always_inline __u16 sum_of(const void *header, int from, int to)
{
	const __be16 *words = header;
	__u32 sum = 0;

#pragma unroll
	for (int i = from; i < to; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

static __always_inline bool sum_is_right(const void *header, int from, int to)
{
	return sum_of(header, from, to) == 0xffff;
}

static __always_inline __u32 tcp_words(const struct tcp *tcp)
{
	return tcp->words_reserved >> 4;
}

#endif
