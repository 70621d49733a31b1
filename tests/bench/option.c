// SPDX-License-Identifier: GPL-2.0-only
/*
 * sock_ops for the bench's client: puts the address option into its SYNs and into the segment that ends the handshake, as
 * directors do. What is written where is said by WRITE_SYN and WRITE_ACK. With WRITE_UNTIL_ANSWERED every segment carries it,
 * much as with DPVS, up to the one that acknowledges the first data: otherwise an ACK that the server drops takes the option with it.
 */
#include <linux/types.h>
#include "clients.h"

#define TCP_SYN 0x02
#define OPTION_KIND 254
#define OPTION_LENGTH 8

struct option {
	__u8 kind;
	__u8 length;
	__be16 port;
	__be32 address;
};

static __always_inline int is_wanted(struct bpf_sock_ops *ops)
{
	return ops->skb_tcp_flags & TCP_SYN ? WRITE_SYN : WRITE_ACK;
}

/* Whether no segment behind this one is to carry the option. */
static __always_inline int is_last(struct bpf_sock_ops *ops)
{
	return !(ops->skb_tcp_flags & TCP_SYN) && (!WRITE_UNTIL_ANSWERED || ops->bytes_received);
}

static __always_inline void write(struct bpf_sock_ops *ops)
{
	struct option option = {
		.kind = OPTION_KIND,
		.length = OPTION_LENGTH,
		.port = bpf_htons(client_port(ops->local_port)),
		.address = bpf_htonl(client_address(bpf_ntohl(ops->local_ip4), ops->local_port)),
	};

	bpf_store_hdr_opt(ops, &option, sizeof(option), 0);
}

int bench_option(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB: bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG); break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (is_wanted(ops))
			bpf_reserve_hdr_opt(ops, OPTION_LENGTH, 0);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		if (is_wanted(ops))
			write(ops);
		if (is_last(ops))
			bpf_sock_ops_cb_flags_set(ops, 0); /* no segment is looked at any more */
		break;
	}
	return 1;
}
