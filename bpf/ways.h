/* The ways back: through which flow a socket answers a client. Their key is explained at struct reply. */
#ifndef IPVSCA_WAYS_H
#define IPVSCA_WAYS_H

#include "flows.h"

/* Of a socket that is bound to `rip`. */
static __always_inline enum reply_end reply_end_of(const struct address *rip)
{
	return is_nowhere(rip) ? REPLY_FROM_ANY : REPLY_FROM_BOUND;
}

/* The key of the way back from the socket that asks with `flow` to a client. */
static __always_inline struct reply reply_to(const struct address *client, __be16 cport, const struct flow *flow)
{
	struct reply reply = {
		.client = *client,
		.cport = cport,
		.rport = flow->rport,
		.rip_mark = mark_of(&flow->rip),
	};

	return reply;
}

/* From now on the socket that asked with `flow` answers its client, `learnt->client`, through it. */
static __always_inline void remember_way_back(const struct flow *flow, struct learnt *learnt,
					      const struct client *client, const struct reply *reply, __u64 timeout_ns,
					      __u64 now_ns)
{
	struct endpoint way = { .address = flow->lip, .port = flow->lport };
	const struct endpoint *known = replies.lookup((void *)reply);

	set(hint_of_reply(reply)); /* even of a way that is known: hints may be newer than replies */
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
	replies.update((void *)reply, &way);
}

/* Of the datagram that is being received: most servers answer it next, on the same CPU. */
static __always_inline void keep_latest_way(const struct reply *reply, const struct flow *flow)
{
	__u32 only = 0;
	struct way_back *kept = latest.lookup(&only);

	if (!kept)
		return;
	kept->reply = *reply;
	kept->way.address = flow->lip;
	kept->way.port = flow->lport;
}

/*
 * Fill LIP and lport of `flow` with the way that this CPU kept last, if it is this one. A process that was interrupted may have
 * written half of it, or another CPU may know a newer one: it serves where `is_flow_of` says so.
 */
static __always_inline bool find_latest_way(const struct reply *reply, struct flow *flow)
{
	__u32 only = 0;
	const struct way_back *kept = latest.lookup(&only);

	if (!kept || !is_same_reply(&kept->reply, reply))
		return false;
	flow->lip = kept->way.address; /* a copy: what is verified is what is used */
	flow->lport = kept->way.port;
	return true;
}

static __always_inline struct endpoint *way_at(struct reply *reply)
{
	return is_set(hint_of_reply(reply)) ? replies.lookup(reply) : 0;
}

/* The same with the one through which this client was received from last, on any CPU. False for none. */
static __always_inline bool find_way(struct reply *reply, struct flow *flow)
{
	const struct endpoint *way = way_at(reply);

	if (!way && reply->rip_mark) {
		/* a socket made for one client, bound to our address, while the one that received is bound to none */
		reply->rip_mark = 0;
		way = way_at(reply);
	}
	if (!way)
		return false;
	flow->lip = way->address; /* a copy, as above */
	flow->lport = way->port;
	return true;
}

/*
 * Whether this is a flow of this client, and where `alone` the only one through which this socket has received from it. Its lport
 * may belong to another client by now: what is meant for one must never reach another.
 */
static __always_inline bool is_flow_of(const struct flow *flow, const struct endpoint *client, bool alone,
				       __u64 timeout_ns, __u64 now_ns)
{
	struct learnt *learnt = find_flow(flow, timeout_ns, now_ns);
	struct client held;

	if (!learnt)
		return false;
	held = learnt->client;
	if (!is_still_of(learnt, flow) || held.port != client->port || !is_same(&held.address, &client->address) ||
	    (alone && (held.is_shared || !(held.has_reply & reply_end_of(&flow->rip)))))
		return false;
	use_flow(flow, learnt, timeout_ns, now_ns);
	return true;
}

/* Fill `flow`, of which LIP and lport are not known, with the one through which `client` is answered. False for none. */
static __always_inline bool find_way_back(const struct endpoint *client, const struct settings *settings,
					  struct flow *flow)
{
	struct reply reply = reply_to(&client->address, client->port, flow);
	__u64 timeout_ns = settings->udp_timeout_ns;

	return (find_latest_way(&reply, flow) && is_flow_of(flow, client, true, timeout_ns, coarse_ns())) ||
	       (find_way(&reply, flow) && is_flow_of(flow, client, false, timeout_ns, coarse_ns()));
}

#endif
