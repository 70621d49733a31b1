/* cgroup connect: a connect to a client goes to its director, and getpeername still gives the client. Never refuses. */
#include "socket.h"
#include "ways.h"

static __always_inline bool way_of_udp(struct bpf_sock_addr *call, const struct settings *settings,
				       const struct endpoint *client, struct endpoint *local)
{
	struct flow flow = { .protocol = PROTOCOL_UDP };

	if (!settings->udp_restore || !read_local_end(call, &flow.rip, &flow.rport) ||
	    !find_way_back(client, settings, &flow))
		return false;
	local->address = flow.lip;
	local->port = flow.lport;
	return true;
}

static __always_inline bool way_of_tcp(const struct settings *settings, const struct endpoint *client,
				       struct endpoint *local)
{
	struct director *director;
	struct endpoint known;
	__u64 learnt_ns;

	if (!settings->tcp_connect)
		return false;
	director = director_of(client);
	if (!director)
		return false;
	bpf_spin_lock(&director->lock);
	known = director->client;
	*local = director->local;
	learnt_ns = director->learnt_ns;
	bpf_spin_unlock(&director->lock);
	return known.port == client->port && is_same(&known.address, &client->address) &&
	       is_within(learnt_ns, coarse_ns(), settings->tcp_timeout_ns);
}

/* The director's end (LIP:lport) through which `client` is reached. False where this is no client's address. */
static __always_inline bool way_of_connect(struct bpf_sock_addr *call, const struct endpoint *client,
					   struct endpoint *local)
{
	const struct settings *settings = current_settings();

	if (!settings)
		return false;
	if (call->protocol == PROTOCOL_UDP)
		return way_of_udp(call, settings, client, local);
	return call->protocol == PROTOCOL_TCP && way_of_tcp(settings, client, local);
}

/* What the socket shows as its peer from now on; 0 for what it is really connected to. */
static __always_inline void show_peer(struct bpf_sock_addr *call, const struct endpoint *peer)
{
	struct client client = {};
	struct bpf_sock *socket = call->sk;
	struct client *kept;

	if (!socket)
		return;
	if (!peer) {
		clients.sk_storage_delete(socket);
		return;
	}
	client.address = peer->address;
	client.port = peer->port;
	client.learnt_from = LEARNT_FROM_CONNECT;
	client.learnt_ns = coarse_ns();
	kept = clients.sk_storage_get(socket, &client, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = client;
}

int ipvsca_connect4(struct bpf_sock_addr *call)
{
	struct endpoint client = { .address = mapped(call->user_ip4), .port = call->user_port };
	struct endpoint local;

	if (way_of_connect(call, &client, &local) && set_address4(call, &local.address, local.port)) {
		count(COUNTER_connect_redirected);
		show_peer(call, &client);
	} else {
		show_peer(call, 0);
	}
	return 1;
}

int ipvsca_connect6(struct bpf_sock_addr *call)
{
	struct endpoint client = { .address = user_address6(call), .port = call->user_port };
	struct endpoint local;

	if (way_of_connect(call, &client, &local)) {
		set_address6(call, &local.address, local.port);
		count(COUNTER_connect_redirected);
		show_peer(call, &client);
	} else {
		show_peer(call, 0);
	}
	return 1;
}
