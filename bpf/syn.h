/* tc ingress: keep the client that a SYN's option tells until the handshake ends. */
#ifndef IPVSCA_SYN_H
#define IPVSCA_SYN_H

#include "hints.h"
#include "layers.h"
#include "toa.h"

static __always_inline bool opens(const struct tcp *tcp)
{
	return (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline bool is_syn(struct __sk_buff *skb, const struct layers *layers)
{
	const struct tcp *tcp;

	if (!readable(skb, layers->transport + sizeof(*tcp)))
		return false;
	tcp = header_at(skb, layers->transport);
	if ((const void *)(tcp + 1) > end_of(skb))
		return false;
	return opens(tcp);
}

static __always_inline void refuse_syn(enum refusal refusal, const struct handshake *handshake)
{
	count_from(COUNTER_refused_syn_malformed + refusal, &handshake->lip, coarse_ns());
}

static __always_inline void keep_client_of_syn(struct __sk_buff *skb, const struct layers *layers)
{
	const struct settings *settings = current_settings();
	struct client client = { .learnt_from = LEARNT_FROM_SYN };
	struct handshake handshake;
	enum toa_verdict verdict;
	const struct tcp *tcp;
	__u32 ip_end = 0, header;
	long error;

	tcp = header_at(skb, layers->transport);
	if (!settings || !settings->option_in_syn || (const void *)(tcp + 1) > end_of(skb))
		return;
	header = tcp_words(tcp) * 4;
	if (header == sizeof(*tcp))
		return; /* no options */
	readable(skb, layers->transport + header); /* where it is not, toa_parse says so */

	if (!read_addresses(skb, layers, &handshake.lip, &handshake.rip, &ip_end))
		return;
	tcp = header_at(skb, layers->transport);
	if ((const void *)(tcp + 1) > end_of(skb))
		return;
	handshake.lport = tcp->source;
	handshake.rport = tcp->destination;
	handshake.isn = bpf_ntohl(tcp->sequence);

	verdict = toa_parse(tcp, end_of(skb), settings, &client);
	if (layers->transport + header > ip_end)
		verdict = TOA_MALFORMED;
	if (verdict == TOA_ABSENT)
		return;
	if (verdict != TOA_FOUND)
		return refuse_syn(refusal_of(verdict), &handshake);
	if (!is_trusted(&handshake.lip))
		return refuse_syn(REFUSED_UNTRUSTED, &handshake);
	client.learnt_ns = coarse_ns();
	set(hint_of_told(&handshake.lip, handshake.rport, HINT_OF_SYN)); /* before there is anything to find */
	error = handshakes.insert(&handshake, &client);
	if (error && error != -EEXIST)
		return refuse_syn(REFUSED_MEMORY, &handshake);
	if (error) {
		struct client *known = handshakes.lookup(&handshake);

		if (!known)
			return; /* it was there a moment ago: the connection is established */
		if (!is_same_client(known, &client)) {
			/* TCP has not judged these segments yet: one may be damaged, and then TCP drops that one */
			known->is_doubtful = 1;
			return count_from(COUNTER_refused_syn_conflict, &handshake.lip, client.learnt_ns);
		}
		known->learnt_ns = client.learnt_ns; /* sent again */
	}
	count_from(COUNTER_syn_learnt, &handshake.lip, client.learnt_ns);
}

#endif
