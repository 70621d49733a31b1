// SPDX-License-Identifier: GPL-2.0-only
/*
 * What hooks are made of: each program does one thing that ipvsca's do, at the same calls, in a table of its own that is as
 * large as theirs. parts.py says in words which.
 */
#include "toa.h"

#define USED(value) asm volatile("" : : "r"(value)) /* or the compiler leaves out what led to it */

BPF_TABLE("array", __u32, struct settings, settings, 1);
BPF_F_TABLE("lpm_trie", struct prefix, __u8, trusted, MAX_TRUSTED, BPF_F_NO_PREALLOC);
BPF_TABLE("percpu_array", __u32, struct counter, counters, MAX_COUNTERS);
BPF_TABLE("lru_hash", struct handshake, struct client, handshakes, MAX_HANDSHAKES);
BPF_TABLE("array", __u32, struct director, connects, CONNECTS);
BPF_TABLE("lru_hash", struct flow_key, struct learnt, flows, MAX_FLOWS);
BPF_TABLE("lru_hash", struct reply, struct endpoint, replies, MAX_FLOWS);
BPF_F_TABLE("sk_storage", int, struct client, clients, 0, BPF_F_NO_PREALLOC);

static __always_inline void walk(struct bpf_sock_ops *ops)
{
	const void *end = ops->skb_data_end;
	const struct tcp *tcp = ops->skb_data;
	struct client client = {};
	__u32 only = 0;
	const struct settings *known = settings.lookup(&only);
	enum toa_verdict verdict;

	if (!known || (const void *)(tcp + 1) > end)
		return;
	verdict = toa_parse(tcp, end, known, &client);
	USED(verdict);
}

static __always_inline void trust(struct bpf_sock_ops *ops)
{
	struct prefix key = { .length = 128, .address = mapped(ops->remote_ip4) };
	const __u8 *is = trusted.lookup(&key);

	USED(is);
}

static __always_inline void handshake(struct bpf_sock_ops *ops)
{
	struct handshake key = {
		.lip = mapped(ops->remote_ip4),
		.rip = mapped(ops->local_ip4),
		.lport = ops->remote_port >> 16,
		.rport = ops->local_port,
		.isn = ops->rcv_nxt,
	};
	const struct client *known = handshakes.lookup(&key);

	USED(known);
}

static __always_inline void storage(struct bpf_sock_ops *ops)
{
	struct client client = { .address = mapped(ops->remote_ip4) };
	struct bpf_sock *socket = ops->sk;

	if (socket)
		clients.sk_storage_get(socket, &client, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline void way(struct bpf_sock_ops *ops)
{
	struct endpoint end = { .address = mapped(ops->remote_ip4), .port = ops->remote_port >> 16 };
	__u32 place = (mixed(&end.address) ^ end.port) * MIXER / (0x100000000 / CONNECTS);
	struct director *director = connects.lookup(&place);

	if (!director)
		return;
	bpf_spin_lock(&director->lock);
	director->client = end;
	director->local = end;
	bpf_spin_unlock(&director->lock);
}

static __always_inline void count(struct bpf_sock_ops *ops)
{
	__u32 id = COUNTER_tcp_restored_ack;
	struct counter *counter = counters.lookup(&id);

	if (!counter)
		return;
	__sync_fetch_and_add(&counter->count, 1);
	counter->last_source = mapped(ops->remote_ip4);
}

#define AT_CONNECTION(name) \
	int part_##name(struct bpf_sock_ops *ops) \
	{ \
		if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) \
			name(ops); \
		return 1; \
	}

AT_CONNECTION(walk)
AT_CONNECTION(trust)
AT_CONNECTION(handshake)
AT_CONNECTION(storage)
AT_CONNECTION(way)
AT_CONNECTION(count)

int part_stored(struct bpf_sock_addr *call)
{
	const struct client *client = call->sk ? clients.sk_storage_get(call->sk, 0, 0) : 0;

	if (client) {
		__be16 port = *(const volatile __be16 *)&client->port;

		USED(port);
	}
	return 1;
}

int part_flow(struct bpf_sock_addr *call)
{
	struct flow_key key = { .lip = mapped(call->user_ip4), .lport = call->user_port, .protocol = PROTOCOL_UDP };
	struct learnt *learnt = flows.lookup(&key), made = {};

	if (!learnt) {
		flows.update(&key, &made); /* once; from then on it is a hit */
	} else {
		__be16 port = *(const volatile __be16 *)&learnt->client.port;

		USED(port);
	}
	return 1;
}

int part_reply(struct bpf_sock_addr *call)
{
	struct reply key = { .client = mapped(call->user_ip4), .cport = call->user_port };
	struct endpoint *way = replies.lookup(&key), made = {};

	if (!way) {
		replies.update(&key, &made);
	} else {
		__be16 port = *(const volatile __be16 *)&way->port;

		USED(port);
	}
	return 1;
}
