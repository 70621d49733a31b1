/* The ways back: through which flow a socket answers a client. Their key is explained at struct reply. */
#ifndef IPVSCA_WAYS_H
#define IPVSCA_WAYS_H

#include "flows.h"

/* Of a socket that is bound to `rip`. */
static __always_inline enum reply_end reply_end_of(const struct address *rip)
{
	return is_nowhere(rip) ? REPLY_FROM_ANY : REPLY_FROM_BOUND;
}

/* From now on the socket that asked with `flow` answers its client, `learnt->client`, through it. */
static __always_inline void remember_way_back(const struct flow *flow, struct learnt *learnt,
					      const struct client *client, __u64 timeout_ns, __u64 now_ns)
{
	struct reply reply = {
		.client = client->address,
		.cport = client->port,
		.rport = flow->rport,
		.rip_mark = mark_of(&flow->rip),
	};
	struct endpoint way = { .address = flow->lip, .port = flow->lport };
	const struct endpoint *known = replies.lookup(&reply);

	set(hint_of_reply(&reply)); /* even of a way that is known: hints may be newer than replies */
	learnt->client.has_reply |= reply_end_of(&flow->rip);
	if (known && is_same(&known->address, &flow->lip) && known->port == flow->lport)
		return;
	if (known) {
		struct flow other_flow = *flow;
		struct learnt *other;

		other_flow.lip = known->address;
		other_flow.lport = known->port;
		other = find_flow(&other_flow, timeout_ns, now_ns);
		if (other && is_same_client(&other->client, client))
			other->client.is_shared = learnt->client.is_shared = 1;
	}
	replies.update(&reply, &way);
}

static __always_inline struct endpoint *way_at(struct reply *reply)
{
	return is_set(hint_of_reply(reply)) ? replies.lookup(reply) : 0;
}

/* Fill `flow`, of which LIP and lport are not known, with the one through which `client` was answered last. False for none. */
static __always_inline bool find_way(const struct endpoint *client, struct flow *flow)
{
	struct reply reply = {
		.client = client->address,
		.cport = client->port,
		.rport = flow->rport,
		.rip_mark = mark_of(&flow->rip),
	};
	const struct endpoint *way = way_at(&reply);

	if (!way && reply.rip_mark) {
		/* a socket made for one client, bound to our address, while the one that received is bound to none */
		reply.rip_mark = 0;
		way = way_at(&reply);
	}
	if (!way)
		return false;
	flow->lip = way->address; /* a copy: what is verified is what is used */
	flow->lport = way->port;
	return true;
}

/* Whether this is a flow of this client. Its lport may belong to another one by now: what is meant for one must never reach another. */
static __always_inline bool is_flow_of(const struct flow *flow, const struct endpoint *client, __u64 timeout_ns,
				       __u64 now_ns)
{
	struct learnt *learnt = find_flow(flow, timeout_ns, now_ns);
	struct client held;

	if (!learnt)
		return false;
	held = learnt->client;
	if (!is_still_of(learnt, flow) || held.port != client->port || !is_same(&held.address, &client->address))
		return false;
	use_flow(flow, learnt, timeout_ns, now_ns);
	return true;
}

/* Fill `flow`, of which LIP and lport are not known, with the one through which `client` is answered. False for none. */
static __always_inline bool find_way_back(const struct endpoint *client, const struct settings *settings,
					  struct flow *flow)
{
	return find_way(client, flow) && is_flow_of(flow, client, settings->udp_timeout_ns, bpf_ktime_get_ns());
}

#endif
