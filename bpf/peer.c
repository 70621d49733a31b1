/* cgroup getpeername: accept, accept4 and getpeername give the client. Never refuses the call. */
#include "state.h"

static __always_inline const struct client *client_of(struct bpf_sock_addr *call)
{
	struct bpf_sock *socket = call->sk;

	return socket ? clients.sk_storage_get(socket, 0, 0) : 0;
}

int ipvsca_peer4(struct bpf_sock_addr *call)
{
	const struct client *client = client_of(call);

	if (!client)
		return 1;
	if (!is_mapped(&client->address)) {
		count(COUNTER_getpeername_unshowable);
		return 1;
	}
	call->user_ip4 = client->address.word[3];
	call->user_port = client->port;
	count(COUNTER_getpeername_restored);
	return 1;
}

int ipvsca_peer6(struct bpf_sock_addr *call)
{
	const struct client *client = client_of(call);

	if (!client)
		return 1;
	call->user_ip6[0] = client->address.word[0];
	call->user_ip6[1] = client->address.word[1];
	call->user_ip6[2] = client->address.word[2];
	call->user_ip6[3] = client->address.word[3];
	call->user_port = client->port;
	count(COUNTER_getpeername_restored);
	return 1;
}
