/* cgroup connect: a connect to a client goes to its director, and getpeername still gives the client. Never refuses. */
#include "flows.h"
#include "socket.h"

/* Through which flow the address is reached that is connected to. False where it is no client's. */
static __always_inline bool way_of_connect(struct bpf_sock_addr *call, struct reply *reply, struct flow *flow)
{
	const struct settings *settings = current_settings();
	struct way_back *way;
	__u64 now_ns;

	if (!settings)
		return false;
	if (call->protocol == PROTOCOL_UDP) {
		reply->protocol = PROTOCOL_UDP;
		return read_local_end(call, &reply->rip, &reply->rport) && find_way_back(reply, settings, flow);
	}
	if (call->protocol != PROTOCOL_TCP || !settings->tcp_connect)
		return false;
	reply->protocol = PROTOCOL_TCP;
	way = replies.lookup(reply);
	now_ns = bpf_ktime_get_ns();
	if (!way || !is_within(way->learnt_ns, now_ns, settings->tcp_timeout_ns))
		return false;
	*flow = way->flow;
	return true;
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
	struct flow flow;

	if (way_of_connect(call, &reply, &flow) && set_address4(call, &flow.lip, flow.lport)) {
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
	struct flow flow;

	if (way_of_connect(call, &reply, &flow)) {
		set_address6(call, &flow.lip, flow.lport);
		count(COUNTER_connect_redirected);
		show_peer(call, &reply);
	} else {
		show_peer(call, 0);
	}
	return 1;
}
