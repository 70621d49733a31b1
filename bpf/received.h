/*
 * The flow of the datagram that a socket received last. For lookup.c on kernels where a question cannot be read (LAST_DATAGRAM,
 * which the compiler's caller defines); elsewhere nothing is kept.
 */
#ifndef IPVSCA_RECEIVED_H
#define IPVSCA_RECEIVED_H

#include "maps.h"

#ifdef LAST_DATAGRAM
static __always_inline void keep_received(struct bpf_sock *socket, const struct flow *flow)
{
	struct received received = { .flow = *flow, .thread = bpf_get_current_task() };
	struct received *kept = last_received.sk_storage_get(socket, &received, BPF_SK_STORAGE_GET_F_CREATE);

	if (kept)
		*kept = received;
}

/* False where this thread is not the one that received last: its question is about another datagram. */
static __always_inline bool flow_received(struct bpf_sock *socket, struct flow *flow)
{
	const struct received *kept = last_received.sk_storage_get(socket, 0, 0);

	if (!kept || kept->thread != bpf_get_current_task())
		return false;
	*flow = kept->flow;
	return true;
}
#else
static __always_inline void keep_received(struct bpf_sock *socket, const struct flow *flow)
{
}
#endif

#endif
