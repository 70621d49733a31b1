/*
 * Every map. All are pinned in PIN_MAPS (the loader defines it), so that they outlive the loader and the daemon and a new
 * version of the programs finds them again.
 */
#ifndef IPVSCA_MAPS_H
#define IPVSCA_MAPS_H

#include "counters.h"
#include "types.h"

#define PINNED(type, name, key, value, entries, flags) \
	BPF_F_TABLE(type ":" PIN_MAPS "/" #name, key, value, name, entries, flags)

/* The client of an established TCP connection, kept in its socket. Written by established.c, read by peer.c. */
PINNED("sk_storage", clients, int, struct client, 0, BPF_F_NO_PREALLOC);

/* The client that a SYN told. Written by ingress.c, taken over by established.c. */
PINNED("lru_hash", handshakes, struct handshake, struct client, MAX_HANDSHAKES, 0);

/* The clients of flows. Written by ingress.c, read by recvmsg.c and sendmsg.c; the kernel drops what was not used longest. */
PINNED("lru_hash", flows, struct flow_key, struct learnt, MAX_FLOWS, 0);

/* One entry. Written where `handshakes`, `flows` and `replies` are, read before they are. */
PINNED("array", hints, __u32, struct hints, 1, 0);

/* The director, LIP:lport, through which a client is answered. Written where a datagram of it is received, read by sendmsg.c and connect.c. */
PINNED("lru_hash", replies, struct reply, struct endpoint, MAX_FLOWS, 0);

/*
 * One entry: to the client from which this CPU received a datagram last. Who answers it before this CPU receives the
 * next one finds it here, and not in memory that no cache holds. Written by recvmsg.c, asked by sendmsg.c and connect.c before `replies`.
 */
PINNED("percpu_array", latest, __u32, struct way_back, 1, 0);

/*
 * The director to which a TCP connect to a client goes, at the place that its address and port lead to: one line of memory to write
 * for each connection, where an LRU hash has many. Written by established.c, read by connect.c.
 */
PINNED("array", connects, __u32, struct director, CONNECTS, 0);

/* Kept in a socket, on kernels where a lookup call's question cannot be read. Written by recvmsg.c, read by lookup.c. */
PINNED("sk_storage", last_received, int, struct received, 0, BPF_F_NO_PREALLOC);

/* The directors' prefixes; 0 under one that is not trusted. Written by the CLI, read where an option was found. */
PINNED("lpm_trie", trusted, struct prefix, __u8, MAX_TRUSTED, BPF_F_NO_PREALLOC);

/* One entry. Written by the CLI, read by every program that parses. */
PINNED("array", settings, __u32, struct settings, 1, 0);

/* Indexed by enum counter_id. */
PINNED("percpu_array", counters, __u32, struct counter, MAX_COUNTERS, 0);

/* One entry. Written by the daemon, which alone sees what leaves `flows`. */
PINNED("array", swept, __u32, struct swept, 1, 0);

/* What stands in the maps, for other versions. Written by the loader before any program is attached. */
PINNED("hash", layouts, struct placed, struct place, 512, 0);

/* One entry, for the loader and people. */
PINNED("array", build, __u32, struct build, 1, 0);

#endif
