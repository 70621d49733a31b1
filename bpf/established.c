/* sock_ops: when the kernel has established a connection, find its client and put it into the connection's socket. */
#include "flows.h"
#include "packet.h"
#include "state.h"
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
static __always_inline bool learn_from_ack(struct bpf_sock_ops *ops, const struct address *lip, struct client *client)
{
	const struct settings *settings = current_settings();
	const struct tcp *tcp = ops->skb_data;
	const void *end = ops->skb_data_end;
	enum toa_verdict verdict;
	enum refusal refusal;

	/* TCP_REPAIR establishes a connection without a segment; TCP fast open does it with the SYN */
	if (!settings || (const void *)(tcp + 1) > end)
		return false;
	verdict = toa_parse(tcp, end, settings, client);
	if (verdict == TOA_ABSENT)
		return false;
	if (verdict != TOA_FOUND)
		refusal = refusal_of(verdict);
	else if (!is_trusted(lip))
		refusal = REFUSED_UNTRUSTED;
	else
		return true;
	count_from(COUNTER_refused_ack_malformed + refusal, lip, bpf_ktime_get_ns());
	return false;
}

static __always_inline bool learn_from_syn(const struct handshake *handshake, struct client *client)
{
	const struct settings *settings = current_settings();
	struct client *told = handshakes.lookup((struct handshake *)handshake);
	bool fresh;

	if (!settings || !told)
		return false;
	*client = *told;
	/* another CPU may have given the entry's memory to another handshake while we read: then there is none to delete */
	if (handshakes.delete((struct handshake *)handshake) || client->is_doubtful)
		return false;
	fresh = bpf_ktime_get_ns() - client->learnt_ns < settings->tcp_timeout_ns;
	if (!fresh)
		count(COUNTER_syn_expired);
	return fresh;
}

/* An announcement named the client of this connection ahead of it. */
static __always_inline bool learn_from_flow(const struct handshake *handshake, struct client *client)
{
	const struct settings *settings = current_settings();
	struct flow flow = {
		.lip = handshake->lip,
		.rip = handshake->rip,
		.lport = handshake->lport,
		.rport = handshake->rport,
		.protocol = PROTOCOL_TCP,
	};
	struct learnt *learnt;

	if (!settings)
		return false;
	learnt = find_flow(&flow, settings->tcp_timeout_ns, bpf_ktime_get_ns());
	if (!learnt)
		return false;
	*client = learnt->client;
	if (!is_still_of(learnt, &flow))
		return false;
	forget_flow(&flow);
	return true;
}

/* Where a TCP connect to this client has to go. */
static __always_inline void keep_way_back(const struct handshake *handshake, const struct client *client)
{
	const struct settings *settings = current_settings();
	struct endpoint end = { .address = client->address, .port = client->port };
	struct director director = {
		.local = { .address = handshake->lip, .port = handshake->lport },
		.learnt_ns = client->learnt_ns,
	};

	if (settings && settings->tcp_connect)
		connects.update(&end, &director);
}

/*
 * Who is behind this connection; gives the counter to count it under. A director that writes the option into one of both
 * segments may pass on what a client has put into the other one: where they disagree, nobody is believed.
 */
static __always_inline __u32 find_client(struct bpf_sock_ops *ops, const struct handshake *handshake,
					 struct client *client)
{
	struct client of_ack = { .learnt_from = LEARNT_FROM_ACK };
	struct client of_flow = {};
	/* The walk over the options first: the verifier repeats it for every way that leads there. */
	bool told_by_ack = learn_from_ack(ops, &handshake->lip, &of_ack);
	/* What came ahead of the connection goes with it, needed or not: the next one on these ports has its own. */
	bool told_by_syn = learn_from_syn(handshake, client);
	bool told_by_flow = learn_from_flow(handshake, &of_flow);

	if (told_by_syn && told_by_ack && !is_same_client(client, &of_ack))
		return COUNTER_refused_ack_conflict;
	if (told_by_syn)
		return COUNTER_tcp_restored_syn;
	if (told_by_ack) {
		*client = of_ack;
		return COUNTER_tcp_restored_ack;
	}
	if (told_by_flow) {
		*client = of_flow;
		return COUNTER_tcp_restored_announcement;
	}
	return COUNTER_tcp_no_client;
}

static __always_inline void restore(struct bpf_sock_ops *ops)
{
	struct bpf_sock *socket = ops->sk;
	struct handshake handshake;
	struct client client = {};
	__u32 event;

	if (!socket)
		return;
	handshake_of(ops, &handshake);
	event = find_client(ops, &handshake, &client);
	if (event == COUNTER_tcp_no_client || event == COUNTER_refused_ack_conflict)
		count(COUNTER_tcp_no_client);
	if (event == COUNTER_tcp_no_client)
		return;
	client.learnt_ns = bpf_ktime_get_ns();
	if (event != COUNTER_refused_ack_conflict) {
		if (clients.sk_storage_get(socket, &client, BPF_SK_STORAGE_GET_F_CREATE))
			keep_way_back(&handshake, &client);
		else
			event = COUNTER_refused_ack_memory;
	}
	count_from(event, &handshake.lip, client.learnt_ns);
}

int ipvsca_sockops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		restore(ops);
	return 1; /* anything else would answer for other programs on this cgroup */
}
