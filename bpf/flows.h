/* The table of flows and the ways back: learn, find, use. Their keys are explained at struct flow and struct reply. */
#ifndef IPVSCA_FLOWS_H
#define IPVSCA_FLOWS_H

#include "packet.h"
#include "state.h"

/* A use is written down once the one before it is older than the timeout by 2^this: a write at every packet tells no more. */
#define REFRESH_SHIFT 4

static __always_inline __u64 timeout_of(__u8 protocol, const struct settings *settings)
{
	return protocol == PROTOCOL_TCP ? settings->tcp_timeout_ns : settings->udp_timeout_ns;
}

static __always_inline bool is_within(__u64 since_ns, __u64 now_ns, __u64 timeout_ns)
{
	/* signed: another CPU may have written a moment after we read the clock */
	return (__s64)(now_ns - since_ns) < (__s64)timeout_ns;
}

/* Whether what was read of `learnt` until now belongs to this flow. */
static __always_inline bool is_still_of(const struct learnt *learnt, const struct flow *flow)
{
	asm volatile("" ::: "memory");
	return *(volatile __u64 *)&learnt->identity == identity_of(flow);
}

/* The entry for exactly this key, if it is alive. */
static __always_inline struct learnt *alive_at(const struct flow *key, __u64 timeout_ns, __u64 now_ns)
{
	struct learnt *learnt = flows.lookup((struct flow *)key);

	return learnt && is_within(learnt->used_ns, now_ns, timeout_ns) ? learnt : 0;
}

/* A datagram of this flow was received, or sent to its client. */
static __always_inline void use_flow(struct learnt *learnt, __u64 timeout_ns, __u64 now_ns)
{
	if (!is_within(learnt->used_ns, now_ns, timeout_ns >> REFRESH_SHIFT))
		learnt->used_ns = now_ns;
}

/*
 * The entry that is asked for a flow's client. Its rip is what the socket that asks is bound to; for NOWHERE this may be an
 * ambiguous one.
 */
static __always_inline struct learnt *find_entry(const struct flow *flow, __u64 timeout_ns, __u64 now_ns)
{
	struct flow key = *flow;
	struct learnt *learnt;

	key.rip = NOWHERE;
	learnt = alive_at(&key, timeout_ns, now_ns);
	if (is_nowhere(&flow->rip))
		return learnt;
	if (learnt && !learnt->is_ambiguous && is_same(&learnt->rip, &flow->rip))
		return learnt;
	return alive_at(flow, timeout_ns, now_ns);
}

/* The client of a flow: only where there is no doubt which flow is meant. */
static __always_inline struct learnt *find_flow(const struct flow *flow, __u64 timeout_ns, __u64 now_ns)
{
	struct learnt *learnt = find_entry(flow, timeout_ns, now_ns);

	if (learnt && learnt->is_ambiguous) {
		use_flow(learnt, timeout_ns, now_ns); /* doubt lasts as long as datagrams come */
		count(COUNTER_recvmsg_ambiguous);
		return 0;
	}
	return learnt;
}

/* Whether what is known of a flow (0: nothing) already says the same. */
static __always_inline bool is_repeated(const struct learnt *known, const struct learnt *learnt, __u64 timeout_ns)
{
	return known && known->identity == learnt->identity && is_within(known->used_ns, learnt->used_ns, timeout_ns) &&
	       is_same_client(&known->client, &learnt->client);
}

/* Count what it means for the table that a flow's client takes the place of what was known of it (0: nothing). */
static __always_inline void count_learnt(const struct learnt *known, const struct learnt *learnt, __u64 timeout_ns)
{
	if (!known)
		count(COUNTER_flows_new);
	else if (!is_repeated(known, learnt, timeout_ns))
		count(COUNTER_flows_replaced);
}

/*
 * Keep a client for its flow; what was known of this flow is forgotten. To hear the same once more, as from each of a flow's
 * first datagrams, is a use of the flow and no more. Not 0 where there is no memory.
 */
static __always_inline long learn_flow(const struct flow *flow, const struct client *client, __u64 timeout_ns)
{
	struct learnt learnt = {
		.identity = identity_of(flow),
		.client = *client,
		.rip = flow->rip,
		.used_ns = client->learnt_ns,
	};
	struct learnt *own = flows.lookup((struct flow *)flow);
	struct flow key = *flow;
	struct learnt *known;

	key.rip = NOWHERE;
	known = flows.lookup(&key);
	if (!known || !is_within(known->used_ns, learnt.used_ns, timeout_ns) ||
	    (!known->is_ambiguous && is_same(&known->rip, &flow->rip))) {
		if (!own && is_repeated(known, &learnt, timeout_ns)) {
			known->used_ns = learnt.used_ns;
			return 0;
		}
		count_learnt(known && !known->is_ambiguous ? known : own, &learnt, timeout_ns);
		if (own)
			flows.delete((struct flow *)flow); /* of a time when there was doubt */
		return flows.update(&key, &learnt);
	}

	/* This LIP:lport speaks to another address of ours too: from now on each of these flows has an entry of its own. */
	count_learnt(own, &learnt, timeout_ns);
	struct learnt other = *known;

	known->used_ns = learnt.used_ns;
	known->is_ambiguous = 1; /* before the updates, which may give this entry's memory to another flow */
	if (!other.is_ambiguous) {
		key.rip = other.rip;
		if (flows.update(&key, &other))
			return -1;
	} else if (is_repeated(own, &learnt, timeout_ns)) {
		own->used_ns = learnt.used_ns;
		return 0;
	}
	return flows.update((struct flow *)flow, &learnt);
}

/* A connection has taken this flow's client over: the next one on the same ports has a client of its own. */
static __always_inline void forget_flow(const struct flow *flow)
{
	struct flow key = *flow;
	struct learnt *learnt;

	key.rip = NOWHERE;
	learnt = flows.lookup(&key);
	if (learnt && !learnt->is_ambiguous && is_same(&learnt->rip, &flow->rip))
		flows.delete(&key);
	else
		flows.delete((struct flow *)flow);
	count(COUNTER_flows_taken_over);
}

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
		.rip = flow->rip,
		.cport = client->port,
		.rport = flow->rport,
	};
	struct flow *known = replies.lookup(&reply);

	learnt->has_reply |= reply_end_of(&flow->rip);
	if (known && is_same(&known->lip, &flow->lip) && known->lport == flow->lport)
		return;
	if (known) {
		struct flow other_flow = *known;
		struct learnt *other = find_flow(&other_flow, timeout_ns, now_ns);

		if (other && is_same_client(&other->client, client))
			other->is_shared = learnt->is_shared = 1;
	}
	replies.update(&reply, (struct flow *)flow);
}

/*
 * The flow through which `reply->client` is answered. False where none is known, and where its lport belongs to another client
 * by now: what is meant for one client must never reach another.
 */
static __always_inline bool find_way_back(struct reply *reply, const struct settings *settings, struct flow *flow)
{
	struct address bound = reply->rip;
	struct flow *way = replies.lookup(reply);
	struct client client;
	struct learnt *learnt;
	__u64 now_ns;

	if (!way && !is_nowhere(&reply->rip)) {
		/* a socket made for one client, bound to our address, while the one that received is bound to none */
		reply->rip = NOWHERE;
		way = replies.lookup(reply);
	}
	if (!way)
		return false;
	*flow = *way; /* a copy: what is verified below is what is used */
	flow->rip = bound;
	now_ns = bpf_ktime_get_ns();
	learnt = find_flow(flow, settings->udp_timeout_ns, now_ns);
	if (!learnt)
		return false;
	client = learnt->client;
	if (!is_still_of(learnt, flow) || client.port != reply->cport || !is_same(&client.address, &reply->client))
		return false;
	use_flow(learnt, settings->udp_timeout_ns, now_ns);
	return true;
}

#endif
