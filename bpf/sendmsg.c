/* cgroup sendmsg: a datagram to a client goes back through its director. Never refuses the call. */
#include "flows.h"
#include "socket.h"

static __always_inline const struct way_back *way_of_datagram(struct bpf_sock_addr *call, const struct address *to)
{
	const struct settings *settings = current_settings();
	struct reply reply = { .client = *to, .cport = call->user_port, .protocol = PROTOCOL_UDP };

	if (!settings || !read_local_end(call, &reply.rip, &reply.rport))
		return 0;
	return udp_way_back(&reply, settings);
}

int ipvsca_send4(struct bpf_sock_addr *call)
{
	struct address to = mapped(call->user_ip4);
	const struct way_back *way = way_of_datagram(call, &to);

	if (way && set_address4(call, &way->flow.lip, way->flow.lport))
		count(COUNTER_sendmsg_redirected);
	return 1;
}

int ipvsca_send6(struct bpf_sock_addr *call)
{
	struct address to = user_address6(call);
	const struct way_back *way = way_of_datagram(call, &to);

	/* the kernel sends from an IPv6 socket to the v4-mapped address that it was given, but not to one of ours */
	if (way && !is_mapped(&way->flow.lip)) {
		set_address6(call, &way->flow.lip, way->flow.lport);
		count(COUNTER_sendmsg_redirected);
	}
	return 1;
}
