/* cgroup connect: a connect to a client goes to its director, and getpeername still gives the client. Never refuses. */
#include "flows.h"
#include "socket.h"

/* Which way leads to the address that is connected to; 0 where it is no client's. */
static __always_inline const struct way_back *way_of_connect(struct bpf_sock_addr *call, struct reply *reply)
{
	const struct settings *settings = current_settings();
	struct way_back *way;
	__u64 now_ns;

	if (!settings)
		return 0;
	if (call->protocol == PROTOCOL_UDP) {
		reply->protocol = PROTOCOL_UDP;
		return read_local_end(call, &reply->rip, &reply->rport) ? udp_way_back(reply, settings) : 0;
	}
	if (call->protocol != PROTOCOL_TCP || !settings->tcp_connect)
		return 0;
	reply->protocol = PROTOCOL_TCP;
	way = replies.lookup(reply);
	now_ns = bpf_ktime_get_ns();
	if (!way || !is_within(way->learnt_ns, now_ns, settings->tcp_timeout_ns))
		return 0;
	way->learnt_ns = now_ns;
	return way;
}

/* What the socket shows as its peer from now on; 0 for what it is really connected to. */
static __always_inline void show_peer(struct bpf_sock_addr *call, const struct reply *reply)
{
	struct client client = {};
	struct bpf_sock *socket = call->sk;
	struct client *kept;

	if (!socket)
		return;
	if (!reply) {
		clients.sk_storage_delete(socket);
		return;
	}
	client.address = reply->client;
	client.port = reply->cport;
	client.learnt_from = LEARNT_FROM_CONNECT;
	client.learnt_ns = bpf_ktime_get_ns();
	kept = clients.sk_storage_get(socket, &client, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = client;
}

int ipvsca_connect4(struct bpf_sock_addr *call)
{
	struct reply reply = { .client = mapped(call->user_ip4), .cport = call->user_port };
	const struct way_back *way = way_of_connect(call, &reply);

	if (way && set_address4(call, &way->flow.lip, way->flow.lport)) {
		count(COUNTER_connect_redirected);
		show_peer(call, &reply);
	} else {
		show_peer(call, 0);
	}
	return 1;
}

int ipvsca_connect6(struct bpf_sock_addr *call)
{
	struct reply reply = { .client = user_address6(call), .cport = call->user_port };
	const struct way_back *way = way_of_connect(call, &reply);

	if (way) {
		set_address6(call, &way->flow.lip, way->flow.lport);
		count(COUNTER_connect_redirected);
		show_peer(call, &reply);
	} else {
		show_peer(call, 0);
	}
	return 1;
}
