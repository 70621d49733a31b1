/* The table of flows: learn, find, use. Its keys are explained at struct flow_key. */
#ifndef IPVSCA_FLOWS_H
#define IPVSCA_FLOWS_H

#include "hints.h"
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

/* Where the client of a flow is found if there is no doubt which flow is meant: the key that each flow has. */
static __always_inline struct flow_key common_key(const struct flow *flow)
{
	struct flow_key key = {
		.lip = flow->lip,
		.lport = flow->lport,
		.rport = flow->rport,
		.protocol = flow->protocol,
	};

	return key;
}

/* The key of a flow's own entry. Two of our addresses may have the same mark: whose it is stands in the value. */
static __always_inline struct flow_key own_key(const struct flow *flow)
{
	struct flow_key key = common_key(flow);
	__u32 mark = mark_of(&flow->rip);

	key.rip_mark[0] = mark;
	key.rip_mark[1] = mark >> 8;
	key.rip_mark[2] = mark >> 16;
	return key;
}

/* Where no LIP:lport has ever spoken to two of our addresses there is none, and it costs no look into the table. */
static __always_inline struct learnt *find_own(const struct flow *flow, struct flow_key *own)
{
	return is_set(hint_of_told(&flow->lip, flow->rport, HINT_OF_DOUBT)) ? flows.lookup(own) : 0;
}

/*
 * The entry that is asked for a flow's client, dead or alive. Its rip is what the socket that asks is bound to; for NOWHERE this
 * may be an ambiguous one.
 */
static __always_inline struct learnt *find_entry(const struct flow *flow)
{
	struct flow_key key = common_key(flow);
	struct learnt *learnt;

	if (!is_set(hint_of_told(&flow->lip, flow->rport, flow->protocol)))
		return 0;
	learnt = flows.lookup(&key);
	if (!learnt || is_nowhere(&flow->rip) || (!learnt->client.is_ambiguous && is_same(&learnt->rip, &flow->rip)))
		return learnt;
	key = own_key(flow);
	learnt = find_own(flow, &key);
	return learnt && is_same(&learnt->rip, &flow->rip) ? learnt : 0;
}

/* The client of a flow: only where there is no doubt which flow is meant. */
static __always_inline struct learnt *find_flow(const struct flow *flow, __u64 timeout_ns, __u64 now_ns)
{
	struct learnt *learnt = find_entry(flow);

	if (!learnt || learnt->client.is_ambiguous || !is_within(learnt->used_ns, now_ns, timeout_ns))
		return 0;
	return learnt;
}

/* Doubt lasts as long as one of its flows: otherwise one of them would be taken for all. */
static __always_inline void keep_doubt(const struct flow *flow, __u64 now_ns)
{
	struct flow_key key = common_key(flow);
	struct learnt *learnt = flows.lookup(&key);

	if (learnt && learnt->client.is_ambiguous)
		learnt->used_ns = now_ns;
}

/* A datagram of this flow was received, or sent to its client. */
static __always_inline void use_flow(const struct flow *flow, struct learnt *learnt, __u64 timeout_ns, __u64 now_ns)
{
	if (is_within(learnt->used_ns, now_ns, timeout_ns >> REFRESH_SHIFT))
		return;
	learnt->used_ns = now_ns;
	if (!is_nowhere(&flow->rip))
		keep_doubt(flow, now_ns);
}

/* Whether what is known of a flow (0: nothing) already says the same. */
static __always_inline bool is_repeated(const struct learnt *known, const struct learnt *learnt, __u64 timeout_ns)
{
	return known && known->identity == learnt->identity && is_within(known->used_ns, learnt->used_ns, timeout_ns) &&
	       is_same_client(&known->client, &learnt->client) && is_same(&known->rip, &learnt->rip);
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
	struct flow_key common = common_key(flow);
	struct flow_key own_place = own_key(flow);
	struct learnt *known = flows.lookup(&common);
	struct learnt *own = find_own(flow, &own_place);
	const struct learnt *held;

	set(hint_of_told(&flow->lip, flow->rport, flow->protocol)); /* before there is anything to find */
	if (!known) {
		if (!flows.insert(&common, &learnt)) {
			count_learnt(own, &learnt, timeout_ns);
			if (own)
				flows.delete(&own_place); /* of a time when there was doubt */
			return 0;
		}
		known = flows.lookup(&common); /* which another CPU has just learnt, perhaps of another flow */
		if (!known)
			return -1;
	}
	held = known->client.is_ambiguous ? own : known;
	FORGET_ORIGIN(held);
	if (!is_within(known->used_ns, learnt.used_ns, timeout_ns) ||
	    (!known->client.is_ambiguous && is_same(&known->rip, &flow->rip))) {
		count_learnt(held, &learnt, timeout_ns);
		if (own)
			flows.delete(&own_place);
		if (is_repeated(known, &learnt, timeout_ns)) {
			known->used_ns = learnt.used_ns;
			return 0;
		}
		return flows.update(&common, &learnt);
	}

	/* This LIP:lport speaks to another address of ours too: from now on each of these flows has an entry of its own. */
	set(hint_of_told(&flow->lip, flow->rport, HINT_OF_DOUBT)); /* before there are entries of their own */
	count_learnt(own, &learnt, timeout_ns);
	struct learnt other = *known;

	known->used_ns = learnt.used_ns;
	known->client.is_ambiguous = 1; /* before the updates, which may give this entry's memory to another flow */
	if (!other.client.is_ambiguous) {
		struct flow other_flow = *flow;

		other_flow.rip = other.rip;
		common = own_key(&other_flow);
		if (flows.update(&common, &other))
			return -1;
	} else if (is_repeated(own, &learnt, timeout_ns)) {
		own->used_ns = learnt.used_ns;
		return 0;
	}
	return flows.update(&own_place, &learnt);
}

/* A connection has taken this flow's client over: the next one on the same ports has a client of its own. */
static __always_inline void forget_flow(const struct flow *flow)
{
	struct flow_key key = common_key(flow);
	struct learnt *learnt = flows.lookup(&key);

	if (!learnt || learnt->client.is_ambiguous || !is_same(&learnt->rip, &flow->rip))
		key = own_key(flow);
	flows.delete(&key);
	count(COUNTER_flows_taken_over);
}

#endif
