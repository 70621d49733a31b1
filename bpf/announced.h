/* tc ingress: read the client that an announcement names for its flow. The echo itself goes on, and the kernel answers it. */
#ifndef IPVSCA_ANNOUNCED_H
#define IPVSCA_ANNOUNCED_H

#include "announcement.h"
#include "claim.h"

/* As far as an announcement is looked at, however many IP options are in front of it. */
#define ANNOUNCEMENT_REACH (60 + ANNOUNCEMENT_SIGNATURE)

/* False where this is no announcement, or not a right one. */
static __always_inline bool read_announcement(struct __sk_buff *skb, const struct layers *layers,
					      const struct settings *settings, struct claim *claim)
{
	__u32 reach = layers->ip + ANNOUNCEMENT_REACH;
	enum announcement_verdict verdict;
	struct announcing packet = {};
	const struct ipv4 *ip;
	struct address lip;

	readable(skb, skb->len < reach ? skb->len : reach);
	ip = header_at(skb, layers->ip);
	if ((const void *)(ip + 1) > end_of(skb))
		return false;
	verdict = announcement_look(ip, end_of(skb));
	if (verdict == ANNOUNCEMENT_ABSENT)
		return false;
	lip = mapped(ip->source);
	if (verdict == ANNOUNCEMENT_FOUND) {
		if (bpf_skb_load_bytes(skb, layers->ip, &packet, sizeof(packet)))
			return false;
		verdict = announcement_read(&packet, settings, &claim->flow, &claim->client);
	}
	if (verdict != ANNOUNCEMENT_FOUND)
		return refuse_claim(COUNTER_refused_announcement_fragment + verdict - ANNOUNCEMENT_FRAGMENT, &lip);
	claim->client.learnt_from = LEARNT_FROM_ANNOUNCEMENT;
	claim->believed = COUNTER_announcement_learnt;
	claim->untrusted = COUNTER_refused_announcement_untrusted;
	return true;
}

#endif
