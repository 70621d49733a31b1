/* tc ingress: keep the client that an announcement names for its flow. The echo itself goes on, and the kernel answers it. */
#ifndef IPVSCA_ANNOUNCED_H
#define IPVSCA_ANNOUNCED_H

#include "announcement.h"
#include "director.h"
#include "flows.h"
#include "layers.h"

/* As far as an announcement is looked at, however many IP options are in front of it. */
#define ANNOUNCEMENT_REACH (60 + ANNOUNCEMENT_SIGNATURE)

static __always_inline void refuse_announcement(__u32 counter, const struct address *lip)
{
	count_from(counter, lip, bpf_ktime_get_ns());
}

static __always_inline void learn_from_announcement(struct __sk_buff *skb, const struct layers *layers)
{
	__u32 reach = layers->ip + ANNOUNCEMENT_REACH;
	const struct settings *settings = current_settings();
	struct client client = { .learnt_from = LEARNT_FROM_ANNOUNCEMENT };
	enum announcement_verdict verdict;
	struct announcing packet = {};
	const struct ipv4 *ip;
	struct flow flow = {};
	struct address lip;

	readable(skb, skb->len < reach ? skb->len : reach);
	ip = header_at(skb, layers->ip);
	if (!settings || (const void *)(ip + 1) > end_of(skb))
		return;
	verdict = announcement_look(ip, end_of(skb));
	if (verdict == ANNOUNCEMENT_ABSENT)
		return;
	lip = mapped(ip->source);
	if (verdict == ANNOUNCEMENT_FOUND) {
		if (bpf_skb_load_bytes(skb, layers->ip, &packet, sizeof(packet)))
			return;
		verdict = announcement_read(&packet, settings, &flow, &client);
	}
	if (verdict != ANNOUNCEMENT_FOUND)
		return refuse_announcement(COUNTER_refused_announcement_fragment + verdict - ANNOUNCEMENT_FRAGMENT,
					   &lip);
	if (!is_to_this_host(skb))
		return refuse_announcement(COUNTER_refused_announcement_host, &lip);
	if (!is_from_director(skb, &lip))
		return refuse_announcement(COUNTER_refused_announcement_untrusted, &lip);
	client.learnt_ns = bpf_ktime_get_ns();
	if (learn_flow(&flow, &client, timeout_of(flow.protocol, settings)))
		return refuse_announcement(COUNTER_refused_announcement_memory, &lip);
	count_from(COUNTER_announcement_learnt, &lip, client.learnt_ns);
}

#endif
