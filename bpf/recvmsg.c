/* cgroup recvmsg: recvfrom, recvmsg, recvmmsg give the client as a datagram's source. Never refuses the call. */
#include "received.h"
#include "socket.h"
#include "ways.h"

/*
 * Whether the application may be shown this client: only where its answer finds the way back. From an IPv6 socket the kernel does
 * not send to a v4-mapped LIP in place of an IPv6 client, nor from an IPv4 socket to an IPv6 LIP.
 */
static __always_inline bool can_be_answered(const struct settings *settings, const struct flow *flow,
					    const struct client *client)
{
	if (!settings->udp_restore)
		return false;
	if (is_mapped(&flow->lip) == is_mapped(&client->address))
		return true;
	count(COUNTER_recvmsg_unshowable);
	return false;
}

/* The client behind a datagram's source. False where the source stays. */
static __always_inline bool client_of_datagram(struct bpf_sock_addr *call, const struct address *source,
					       struct client *client)
{
	const struct settings *settings = current_settings();
	struct flow flow = { .lip = *source, .lport = call->user_port, .protocol = PROTOCOL_UDP };
	struct learnt *learnt;
	struct reply reply;
	__u64 timeout_ns, now_ns;

	if (!settings || !read_local_end(call, &flow.rip, &flow.rport))
		return false;
	keep_received(call->sk, &flow);
	learnt = find_entry(&flow);
	if (!learnt)
		return false; /* most datagrams of most servers: no clock is read for them */
	timeout_ns = settings->udp_timeout_ns;
	now_ns = coarse_ns();
	if (!is_within(learnt->used_ns, now_ns, timeout_ns))
		return false;
	if (learnt->client.is_ambiguous) {
		use_flow(&flow, learnt, timeout_ns, now_ns); /* doubt lasts as long as datagrams come */
		count(COUNTER_recvmsg_ambiguous);
		return false;
	}
	*client = learnt->client;
	if (!is_still_of(learnt, &flow))
		return false;
	if (!can_be_answered(settings, &flow, client)) {
		use_flow(&flow, learnt, timeout_ns, now_ns);
		return false;
	}
	reply = reply_to(&client->address, client->port, &flow);
	keep_latest_way(&reply, &flow);
	if (!(learnt->client.has_reply & reply_end_of(&flow.rip)) || learnt->client.is_shared ||
	    !is_within(learnt->used_ns, now_ns, timeout_ns >> REFRESH_SHIFT))
		remember_way_back(&flow, learnt, client, &reply, timeout_ns, now_ns);
	use_flow(&flow, learnt, timeout_ns, now_ns);
	return true;
}

int ipvsca_recv4(struct bpf_sock_addr *call)
{
	struct address source = mapped(call->user_ip4);
	struct client client;

	if (client_of_datagram(call, &source, &client) && set_address4(call, &client.address, client.port))
		count(COUNTER_recvmsg_restored);
	return 1;
}

int ipvsca_recv6(struct bpf_sock_addr *call)
{
	struct address source = user_address6(call);
	struct client client;

	if (client_of_datagram(call, &source, &client)) {
		set_address6(call, &client.address, client.port);
		count(COUNTER_recvmsg_restored);
	}
	return 1;
}
