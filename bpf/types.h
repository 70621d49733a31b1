/* Keys, values and constants that every part of the data plane shares. Byte order is in the type: __be16, __be32. */
#ifndef IPVSCA_TYPES_H
#define IPVSCA_TYPES_H

#include <linux/types.h>

#define AF_INET 2
#define AF_INET6 10
#define EEXIST 17

/* clang joins two neighbouring words of a context into one load of 8 bytes, which the verifier refuses; volatile keeps them apart. */
#define CONTEXT_WORD(word) (*(volatile __u32 *)&(word))

/* 0, but not to the verifier: what is read from a place, minus what is read from there once more. */
#define UNKNOWN_ZERO(place) (*(volatile typeof(place) *)&(place) - *(volatile typeof(place) *)&(place))

/* Have clang test `value` itself, and not what led to it: the verifier of Linux 6.1 does not see how the two belong together. */
#define FORGET_ORIGIN(value) asm volatile("" : "+r"(value))

/* An IP address as 16 bytes; IPv4 is v4-mapped (::ffff:a.b.c.d), so that IPv4 and IPv6 are one code path. */
struct address {
	__be32 word[4];
};

#define NOWHERE ((struct address){})

#define HINTS 8192 /* few enough to stay in a cache, many more than there are LIPs with a service of ours */

/* `handshakes`, 9 MB: only those under way are in it; where they are too many, the oldest goes first. */
#define MAX_HANDSHAKES 65536
#define MAX_TRUSTED 4096

/* `connects`, 4 MB: only connects that follow soon find their client in it, as in active FTP; a flood of connections pushes out no UDP flow. */
#define CONNECTS 65536

#define MIXER 0x9e3779b1 /* odd, and its bits have no pattern */

/* Where a client was learnt; ipvsca/kernel/layout.py names them for people. */
enum learnt_from {
	LEARNT_FROM_ACK = 1, /* option in the segment that ended the handshake */
	LEARNT_FROM_SYN = 2, /* option in the SYN */
	LEARNT_FROM_ANNOUNCEMENT = 3, /* ICMP echo ahead of the flow */
	LEARNT_FROM_CONNECT = 4, /* the application connected to it */
	LEARNT_FROM_IPO = 5, /* IPv4 option of a datagram */
	LEARNT_FROM_OPP = 6, /* header between IP and UDP */
};

/* Who is behind a director's LIP:lport. */
struct client {
	struct address address;
	__be16 port;
	__u8 learnt_from;
	__u8 is_doubtful; /* of a handshake: SYNs that name different clients have come */
	__u8 is_ambiguous; /* of a flow: flows to other addresses of ours have this key too, look at theirs */
	__u8 has_reply; /* of a flow: `replies` leads to it, bits of enum reply_end */
	__u8 is_shared; /* of a flow: another one of this client leads to the same socket, the last one received from is answered */
	__u8 pad;
	__u64 learnt_ns; /* CLOCK_MONOTONIC */
};

/*
 * A TCP handshake under way. The client's initial sequence number is part of the key: an entry serves the very
 * handshake whose SYN made it, never a later connection that reuses LIP:lport, and who forges a SYN from a director's
 * address would have to guess it.
 */
struct handshake {
	struct address lip;
	struct address rip;
	__be16 lport;
	__be16 rport;
	__u32 isn; /* host byte order */
};

/* A flow as the real server sees it. Where it is asked for, `rip` is what the socket is bound to: NOWHERE for no address. */
struct flow {
	struct address lip;
	struct address rip;
	__be16 lport;
	__be16 rport;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad[3];
};

/*
 * Where a flow's client is found. Of the flow's `rip` there is only a mark, and none in the entry that every flow has: a socket
 * that is bound to no address cannot tell at which one a datagram arrived. Only where one LIP:lport speaks to several of our
 * addresses, each of these flows has an entry with the mark of its own `rip` besides.
 */
struct flow_key {
	struct address lip;
	__be16 lport;
	__be16 rport;
	__u8 protocol;
	__u8 rip_mark[3]; /* of mark_of() */
};

/* The client of a flow. */
struct learnt {
	/*
	 * Written before, and checked after `client` is read: the kernel may give this memory to another flow at any moment.
	 * It tells flows of one table apart as far as that needs: the last word of LIP, and both ports.
	 */
	__u64 identity;
	__u64 used_ns; /* CLOCK_MONOTONIC, no more exact than REFRESH_SHIFT asks for */
	struct client client;
	struct address rip; /* where the flow goes */
};

static __always_inline __u64 identity_of(const struct flow *flow)
{
	return (__u64)flow->lip.word[3] << 32 | (__u32)flow->lport << 16 | flow->rport;
}

/* Whom an application answers by UDP: a client, from a socket of this port and address. */
struct reply {
	struct address client;
	__be16 cport;
	__be16 rport;
	__u32 rip_mark; /* mark_of() the address that the socket is bound to */
};

/*
 * Where there is anything to look up: most datagrams of most servers have nothing to do with a director, and looking for them in
 * a large table would cost a fetch from memory each. By a hash, so that 1 means only perhaps. No byte becomes 0 again.
 */
struct hints {
	__u8 is_used[HINTS];
};

/* From which kinds of sockets a flow's client is answered: each has a key of its own in `replies`. */
enum reply_end {
	REPLY_FROM_ANY = 1, /* bound to no address */
	REPLY_FROM_BOUND = 2,
};

/* An address and port, e.g. a client's or LIP:lport. */
struct endpoint {
	struct address address;
	__be16 port;
	__u8 pad[2];
};

/* A way back, with its key in `replies`. */
struct way_back {
	struct reply reply;
	struct endpoint way; /* LIP:lport */
};

/* Where a TCP connect to a client goes, for how long: tcp_timeout. The lock is for all of it: any client's may take its place. */
struct director {
	struct bpf_spin_lock lock;
	struct endpoint client;
	struct endpoint local; /* LIP:lport */
	__u8 pad[4];
	__u64 learnt_ns; /* CLOCK_MONOTONIC */
};

/* The flow of the datagram that a socket received last, as it was looked up, and the thread that received it. */
struct received {
	struct flow flow;
	__u64 thread; /* a number that no other thread has at the time */
};

struct prefix {
	__u32 length; /* bits, 0 to 128, counted in the 16-byte form */
	struct address address;
};

struct settings {
	__u64 kinds[4]; /* bitmap of the TCP option kinds that name a client */
	__u64 tcp_timeout_ns;
	__u64 udp_timeout_ns;
	__u32 tcp_connect; /* 1: a TCP connect to a client goes to its director */
	__u32 udp_restore; /* 0: what UDP receives and sends keeps the LIP; clients are only kept for lookups */
	__u32 option_in_syn; /* 1: options are read in SYNs */
	__u32 option_in_ack; /* 1: and in the segment that ends a handshake */
};

struct counter {
	__u64 count;
	__u64 last_ns; /* CLOCK_MONOTONIC; 0 where this counter keeps no memory of its last event */
	struct address last_source;
};

/* What the daemon's sweeps took out of `flows`, or found that the kernel had dropped. */
struct swept {
	__u64 expired;
	__u64 evicted;
};

/* Something that has a place in the maps, and what stands there: see ipvsca/layouts.py. */
struct placed {
	char name[16];
};

struct place {
	char digits[16];
};

/* What was loaded, and from what. Written last, and emptied before: an empty one means a load that is not finished. */
struct build {
	char digest[64]; /* SHA-256 of the sources, hexadecimal */
	char version[32];
	char lookup[16]; /* the variant of lookup.c that the kernel accepted; empty without it */
	__u64 loaded_ns; /* CLOCK_REALTIME */
};

static __always_inline bool is_same(const struct address *one, const struct address *other)
{
	return one->word[0] == other->word[0] && one->word[1] == other->word[1] && one->word[2] == other->word[2] &&
	       one->word[3] == other->word[3];
}

static __always_inline bool is_nowhere(const struct address *address)
{
	return !address->word[0] && !address->word[1] && !address->word[2] && !address->word[3];
}

/* A hash that is quick to compute. Two IPv4 addresses never have the same. */
static __always_inline __u32 mixed(const struct address *address)
{
	__u32 mix = address->word[0];

	mix = mix * MIXER ^ address->word[1];
	mix = mix * MIXER ^ address->word[2];
	mix = mix * MIXER ^ address->word[3];
	return mix * MIXER;
}

/*
 * What stands in a key for an address of ours, 24 bits: 0 for NOWHERE, and never 0 for another. Two addresses may have the same
 * mark, so whoever finds an entry by it asks further: struct learnt has the address.
 */
static __always_inline __u32 mark_of(const struct address *address)
{
	return is_nowhere(address) ? 0 : mixed(address) >> 8 | 1;
}

static __always_inline bool is_same_reply(const struct reply *one, const struct reply *other)
{
	return is_same(&one->client, &other->client) && one->cport == other->cport && one->rport == other->rport &&
	       one->rip_mark == other->rip_mark;
}

static __always_inline bool is_same_client(const struct client *one, const struct client *other)
{
	return one->port == other->port && is_same(&one->address, &other->address);
}

static __always_inline struct address mapped(__be32 ipv4)
{
	struct address address = { .word = { 0, 0, bpf_htonl(0xffff), ipv4 } };

	return address;
}

static __always_inline bool is_mapped(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_loopback(const struct address *address)
{
	if (is_mapped(address))
		return bpf_ntohl(address->word[3]) >> 24 == 127;
	return !address->word[0] && !address->word[1] && !address->word[2] && address->word[3] == bpf_htonl(1);
}

/* The twin of Endpoint.can_be_client in ipvsca/address.py, where the reasons stand. */
static __always_inline bool can_be_client(const struct client *client)
{
	const __be32 *word = client->address.word;

	if (!client->port)
		return false;
	if (is_mapped(&client->address)) {
		__u32 ipv4 = bpf_ntohl(word[3]);
		__u32 first = ipv4 >> 24;

		return first != 0 && first != 127 && (first < 224 || first > 239) && ipv4 != 0xffffffff;
	}
	if (!word[0] && !word[1] && !word[2] && bpf_ntohl(word[3]) <= 1) /* :: and ::1 */
		return false;
	return (bpf_ntohl(word[0]) >> 24) != 0xff;
}

#endif
