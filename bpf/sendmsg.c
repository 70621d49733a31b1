/* cgroup sendmsg: a datagram to a client goes back through its director. Never refuses the call. */
#include "socket.h"
#include "ways.h"

static __always_inline bool way_of_datagram(struct bpf_sock_addr *call, const struct address *to, struct flow *flow)
{
	const struct settings *settings = current_settings();
	struct endpoint client = { .address = *to, .port = call->user_port };

	return settings && settings->udp_restore && read_local_end(call, &flow->rip, &flow->rport) &&
	       find_way_back(&client, settings, flow);
}

int ipvsca_send4(struct bpf_sock_addr *call)
{
	struct address to = mapped(call->user_ip4);
	struct flow flow = { .protocol = PROTOCOL_UDP };

	if (way_of_datagram(call, &to, &flow) && set_address4(call, &flow.lip, flow.lport))
		count(COUNTER_sendmsg_redirected);
	return 1;
}

int ipvsca_send6(struct bpf_sock_addr *call)
{
	struct address to = user_address6(call);
	struct flow flow = { .protocol = PROTOCOL_UDP };

	/* the kernel sends from an IPv6 socket to the v4-mapped address that it was given, but not to one of ours */
	if (way_of_datagram(call, &to, &flow) && !is_mapped(&flow.lip)) {
		set_address6(call, &flow.lip, flow.lport);
		count(COUNTER_sendmsg_redirected);
	}
	return 1;
}
