// SPDX-License-Identifier: GPL-2.0-only
/* Programs that do nothing: what the kernel says they took is what measuring takes. One for each hook of ipvsca. */
#include <linux/types.h>

#define TC_ACT_UNSPEC (-1)

int empty_tc(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

int empty_sockops(struct bpf_sock_ops *ops)
{
	return 1;
}

int empty_lookup(struct bpf_sockopt *call)
{
	return 1;
}

#define EMPTY(name) \
	int empty_##name(struct bpf_sock_addr *call) \
	{ \
		return 1; \
	}

EMPTY(peer4)
EMPTY(recv4)
EMPTY(send4)
