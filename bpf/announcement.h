/*
 * The announcement: bytes of an IPv4 packet in; flow and client, or a verdict, out. No map, no helper call. The reference is
 * ipvsca/wire/announcement.py, where the format is drawn.
 */
#ifndef IPVSCA_ANNOUNCEMENT_H
#define IPVSCA_ANNOUNCEMENT_H

#include "packet.h"
#include "toa.h"
#include "types.h"

#define ANNOUNCEMENT_MAGIC 123
#define ANNOUNCEMENT_IDENTIFIER 0x1234 /* from a big-endian director, */
#define ANNOUNCEMENT_IDENTIFIER_SWAPPED 0x3412 /* and from a little-endian one */

/* The members and their meaning are those of Verdict in ipvsca/wire/announcement.py. */
enum announcement_verdict {
	ANNOUNCEMENT_FOUND,
	ANNOUNCEMENT_ABSENT,
	ANNOUNCEMENT_FRAGMENT,
	ANNOUNCEMENT_LENGTH,
	ANNOUNCEMENT_CHECKSUM,
	ANNOUNCEMENT_MALFORMED,
	ANNOUNCEMENT_KIND,
	ANNOUNCEMENT_CLIENT,
};

struct announcement {
	__u8 magic;
	__u8 protocol;
	__be16 lport;
	__be16 rport;
	__u8 kind;
	__u8 length; /* of an option with this kind: 8 */
	__be16 cport;
	__be32 client;
} __attribute__((packed, aligned(2)));

/* The whole packet. */
struct announcing {
	struct ipv4 ip;
	struct icmp icmp;
	struct announcement announcement;
} __attribute__((packed, aligned(2)));

/* What has to be there for a packet to be taken for an announcement, right or wrong. */
#define ANNOUNCEMENT_SIGNATURE (sizeof(struct icmp) + offsetof(struct announcement, cport))

static __always_inline bool has_announcement_header(const struct icmp *icmp)
{
	return icmp->type == ICMP_ECHO_REQUEST && !icmp->code && !icmp->sequence &&
	       (icmp->identifier == bpf_htons(ANNOUNCEMENT_IDENTIFIER) ||
		icmp->identifier == bpf_htons(ANNOUNCEMENT_IDENTIFIER_SWAPPED));
}

static __always_inline bool has_announcement_marks(const struct announcement *announcement)
{
	return announcement->magic == ANNOUNCEMENT_MAGIC && announcement->length == TOA_LENGTH_IPV4;
}

/*
 * Whether the IPv4 packet at `ip`, of which everything up to `end` may be read, is an announcement by its looks. Where this
 * says ANNOUNCEMENT_FOUND, it has the length of one.
 */
static __always_inline enum announcement_verdict announcement_look(const struct ipv4 *ip, const void *end)
{
	const struct icmp *icmp;
	const struct announcement *announcement;

	if ((const void *)(ip + 1) > end || ip->protocol != PROTOCOL_ICMP)
		return ANNOUNCEMENT_ABSENT;
	if (ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return ANNOUNCEMENT_ABSENT; /* a later fragment has no ICMP header */
	icmp = (const void *)ip + (ip->version_words & 0xf) * 4;
	announcement = (const void *)(icmp + 1);
	if ((const void *)icmp + ANNOUNCEMENT_SIGNATURE > end)
		return ANNOUNCEMENT_ABSENT;
	if (!has_announcement_header(icmp) && !has_announcement_marks(announcement))
		return ANNOUNCEMENT_ABSENT;
	if (ip->fragment & bpf_htons(IPV4_MORE_FRAGMENTS))
		return ANNOUNCEMENT_FRAGMENT;
	if (ip->version_words != IPV4_WITHOUT_OPTIONS || ip->length != bpf_htons(sizeof(struct announcing)) ||
	    (const void *)ip + sizeof(struct announcing) > end)
		return ANNOUNCEMENT_LENGTH;
	return ANNOUNCEMENT_FOUND;
}

/*
 * Read a packet that looks like one, copied to aligned memory. Fills `flow` (with its rip), and address and port of `client`,
 * where the verdict is ANNOUNCEMENT_FOUND.
 */
static __always_inline enum announcement_verdict announcement_read(const struct announcing *packet,
								   const struct settings *settings, struct flow *flow,
								   struct client *client)
{
	const struct announcement *announcement = &packet->announcement;

	if (!sum_is_right(packet, 0, sizeof(packet->ip) / 2) ||
	    !sum_is_right(packet, sizeof(packet->ip) / 2, sizeof(*packet) / 2))
		return ANNOUNCEMENT_CHECKSUM;
	if (!has_announcement_header(&packet->icmp) || !has_announcement_marks(announcement))
		return ANNOUNCEMENT_MALFORMED;
	if (announcement->protocol != PROTOCOL_TCP && announcement->protocol != PROTOCOL_UDP)
		return ANNOUNCEMENT_MALFORMED;
	if (!announcement->lport || !announcement->rport)
		return ANNOUNCEMENT_MALFORMED;
	if (!is_client_kind(settings, announcement->kind))
		return ANNOUNCEMENT_KIND;
	client->address = mapped(announcement->client);
	client->port = announcement->cport;
	if (!can_be_client(client))
		return ANNOUNCEMENT_CLIENT;
	flow->lip = mapped(packet->ip.source);
	flow->rip = mapped(packet->ip.destination);
	flow->lport = announcement->lport;
	flow->rport = announcement->rport;
	flow->protocol = announcement->protocol;
	return ANNOUNCEMENT_FOUND;
}

#endif
