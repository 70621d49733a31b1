/* sock_ops: when the kernel has established a connection, find its client and put it into the connection's socket. */
#include "flows.h"
#include "toa.h"

static __always_inline void handshake_of(struct bpf_sock_ops *ops, struct handshake *handshake)
{
	if (ops->family == AF_INET) {
		handshake->lip = mapped(ops->remote_ip4);
		handshake->rip = mapped(ops->local_ip4);
	} else {
		handshake->lip.word[0] = CONTEXT_WORD(ops->remote_ip6[0]);
		handshake->lip.word[1] = CONTEXT_WORD(ops->remote_ip6[1]);
		handshake->lip.word[2] = CONTEXT_WORD(ops->remote_ip6[2]);
		handshake->lip.word[3] = CONTEXT_WORD(ops->remote_ip6[3]);
		handshake->rip.word[0] = CONTEXT_WORD(ops->local_ip6[0]);
		handshake->rip.word[1] = CONTEXT_WORD(ops->local_ip6[1]);
		handshake->rip.word[2] = CONTEXT_WORD(ops->local_ip6[2]);
		handshake->rip.word[3] = CONTEXT_WORD(ops->local_ip6[3]);
	}
	/* remote_port is 32 bits in network byte order, local_port is in host byte order */
	handshake->lport = bpf_htons(bpf_ntohl(ops->remote_port));
	handshake->rport = bpf_htons(ops->local_port);
	handshake->isn = ops->rcv_nxt - 1; /* nothing is received yet, whichever segment ended the handshake */
}

/* The option of the segment that ended the handshake: the ACK, or where that was lost the first data. */
static __always_inline enum toa_verdict read_option(struct bpf_sock_ops *ops, const struct settings *settings,
						    struct client *client)
{
	const struct tcp *tcp = ops->skb_data;
	const void *end = ops->skb_data_end;

	/* TCP_REPAIR establishes a connection without a segment; TCP fast open does it with the SYN */
	if ((const void *)(tcp + 1) > end ||
	    !(tcp->flags & TCP_SYN ? settings->option_in_syn : settings->option_in_ack))
		return TOA_ABSENT;
	return toa_parse(tcp, end, settings, client);
}

static __always_inline bool is_believed(enum toa_verdict verdict, const struct address *lip, __u64 now_ns)
{
	enum refusal refusal;

	if (verdict == TOA_ABSENT)
		return false;
	if (verdict != TOA_FOUND)
		refusal = refusal_of(verdict);
	else if (!is_trusted(lip))
		refusal = REFUSED_UNTRUSTED;
	else
		return true;
	count_from(COUNTER_refused_ack_malformed + refusal, lip, now_ns);
	return false;
}

static __always_inline bool learn_from_syn(const struct handshake *handshake, const struct settings *settings,
					   __u64 now_ns, struct client *client)
{
	struct client *told;
	bool fresh;

	if (!settings->option_in_syn || !is_set(hint_of_told(&handshake->lip, handshake->rport, HINT_OF_SYN)))
		return false;
	told = handshakes.lookup((struct handshake *)handshake);
	if (!told)
		return false;
	*client = *told;
	/* another CPU may have given the entry's memory to another handshake while we read: then there is none to delete */
	if (handshakes.delete((struct handshake *)handshake) || client->is_doubtful)
		return false;
	fresh = is_within(client->learnt_ns, now_ns, settings->tcp_timeout_ns);
	if (!fresh)
		count(COUNTER_syn_expired);
	return fresh;
}

/* An announcement named the client of this connection ahead of it. */
static __always_inline bool learn_from_flow(const struct handshake *handshake, const struct settings *settings,
					    __u64 now_ns, struct client *client)
{
	struct flow flow = {
		.lip = handshake->lip,
		.rip = handshake->rip,
		.lport = handshake->lport,
		.rport = handshake->rport,
		.protocol = PROTOCOL_TCP,
	};
	struct learnt *learnt = find_flow(&flow, settings->tcp_timeout_ns, now_ns);

	if (!learnt)
		return false;
	*client = learnt->client;
	if (!is_still_of(learnt, &flow))
		return false;
	forget_flow(&flow);
	return true;
}

/*
 * Where a TCP connect to this client has to go. Never to loopback: connects are asked for in all network namespaces alike, and a
 * user may have one of his own, whose loopback is trusted as ours is.
 */
static __always_inline void keep_way_back(const struct handshake *handshake, const struct client *client)
{
	struct endpoint end = { .address = client->address, .port = client->port };
	struct endpoint local = { .address = handshake->lip, .port = handshake->lport };
	struct director *director;

	if (is_loopback(&handshake->lip))
		return;
	director = director_of(&end);
	if (!director)
		return;
	bpf_spin_lock(&director->lock);
	director->client = end;
	director->local = local;
	director->learnt_ns = client->learnt_ns;
	bpf_spin_unlock(&director->lock);
}

/*
 * Who is behind this connection; gives the counter to count it under. `client` is what the ACK's option says. A director that
 * writes the option into one of both segments may pass on what a client has put into the other one: where they disagree,
 * nobody is believed.
 */
static __always_inline __u32 find_client(const struct handshake *handshake, enum toa_verdict verdict,
					 const struct settings *settings, __u64 now_ns, struct client *client)
{
	struct client of_syn = {}, of_flow = {};
	/* What came ahead of the connection goes with it, needed or not: the next one on these ports has its own. */
	bool told_by_syn = learn_from_syn(handshake, settings, now_ns, &of_syn);
	bool told_by_flow = learn_from_flow(handshake, settings, now_ns, &of_flow);
	/* LIP was in `trusted` as it sent the SYN: where the ACK says the same, that need not be asked again. */
	bool is_confirmed = told_by_syn && verdict == TOA_FOUND && is_same_client(client, &of_syn);
	bool told_by_ack = is_confirmed || is_believed(verdict, &handshake->lip, now_ns);

	if (told_by_syn && told_by_ack && !is_same_client(client, &of_syn))
		return COUNTER_refused_ack_conflict;
	if (told_by_syn) {
		*client = of_syn;
		return COUNTER_tcp_restored_syn;
	}
	if (told_by_ack)
		return COUNTER_tcp_restored_ack;
	if (told_by_flow) {
		*client = of_flow;
		return COUNTER_tcp_restored_announcement;
	}
	return COUNTER_tcp_no_client;
}

static __always_inline void restore(struct bpf_sock_ops *ops)
{
	const struct settings *settings = current_settings();
	struct client client = { .learnt_from = LEARNT_FROM_ACK };
	struct bpf_sock *socket = ops->sk;
	struct handshake handshake;
	enum toa_verdict verdict;
	__u64 now_ns;
	__u32 event;

	if (!socket || !settings)
		return;
	/* The walk over the options first: the verifier repeats it for every way that leads there. */
	verdict = read_option(ops, settings, &client);
	now_ns = coarse_ns();
	handshake_of(ops, &handshake);
	event = find_client(&handshake, verdict, settings, now_ns, &client);
	if (event == COUNTER_tcp_no_client || event == COUNTER_refused_ack_conflict)
		count(COUNTER_tcp_no_client);
	if (event == COUNTER_tcp_no_client)
		return;
	client.learnt_ns = now_ns;
	if (event != COUNTER_refused_ack_conflict) {
		if (!clients.sk_storage_get(socket, &client, BPF_SK_STORAGE_GET_F_CREATE))
			event = COUNTER_refused_ack_memory;
		else if (settings->tcp_connect)
			keep_way_back(&handshake, &client);
	}
	count_from(event, &handshake.lip, now_ns);
}

int ipvsca_sockops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		restore(ops);
	return 1; /* anything else would answer for other programs on this cgroup */
}
