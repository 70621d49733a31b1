/* The context of cgroup socket address hooks: what an application sees or says; and the local end of a socket. */
#ifndef IPVSCA_SOCKET_H
#define IPVSCA_SOCKET_H

#include "types.h"

static __always_inline struct address user_address6(struct bpf_sock_addr *call)
{
	struct address address = { .word = {
					   CONTEXT_WORD(call->user_ip6[0]),
					   CONTEXT_WORD(call->user_ip6[1]),
					   CONTEXT_WORD(call->user_ip6[2]),
					   CONTEXT_WORD(call->user_ip6[3]),
				   } };

	return address;
}

/* False where an IPv4 socket cannot show this address; then nothing is changed. */
static __always_inline bool set_address4(struct bpf_sock_addr *call, const struct address *address, __be16 port)
{
	if (!is_mapped(address))
		return false;
	call->user_ip4 = address->word[3];
	call->user_port = port;
	return true;
}

static __always_inline void set_address6(struct bpf_sock_addr *call, const struct address *address, __be16 port)
{
	call->user_ip6[0] = address->word[0];
	call->user_ip6[1] = address->word[1];
	call->user_ip6[2] = address->word[2];
	call->user_ip6[3] = address->word[3];
	call->user_port = port;
}

/* The address (NOWHERE for none) and port that a socket is bound to. */
static __always_inline void local_end(struct bpf_sock *socket, struct address *address, __be16 *port)
{
	*port = bpf_htons(socket->src_port);
	if (socket->family == AF_INET6) {
		address->word[0] = CONTEXT_WORD(socket->src_ip6[0]);
		address->word[1] = CONTEXT_WORD(socket->src_ip6[1]);
		address->word[2] = CONTEXT_WORD(socket->src_ip6[2]);
		address->word[3] = CONTEXT_WORD(socket->src_ip6[3]);
	} else if (socket->src_ip4) {
		*address = mapped(socket->src_ip4);
	} else {
		*address = NOWHERE;
	}
}

/* The same of the socket of a call. False where there is none to ask. */
static __always_inline bool read_local_end(struct bpf_sock_addr *call, struct address *address, __be16 *port)
{
	struct bpf_sock *socket = call->sk;

	if (!socket)
		return false;
	local_end(socket, address, port);
	return true;
}

#endif
