/* cgroup getpeername: accept, accept4 and getpeername give the client. Never refuses the call. */
#include "socket.h"
#include "state.h"

static __always_inline const struct client *client_of(struct bpf_sock_addr *call)
{
	struct bpf_sock *socket = call->sk;

	return socket ? clients.sk_storage_get(socket, 0, 0) : 0;
}

int ipvsca_peer4(struct bpf_sock_addr *call)
{
	const struct client *client = client_of(call);

	if (client)
		count(set_address4(call, &client->address, client->port) ? COUNTER_getpeername_restored
									 : COUNTER_getpeername_unshowable);
	return 1;
}

int ipvsca_peer6(struct bpf_sock_addr *call)
{
	const struct client *client = client_of(call);

	if (client) {
		set_address6(call, &client->address, client->port);
		count(COUNTER_getpeername_restored);
	}
	return 1;
}
