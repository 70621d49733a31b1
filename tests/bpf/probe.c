/*
 * tc, only ever run by BPF_PROG_TEST_RUN: what a parser says of the bytes behind the first RESULT_ROOM, written into those.
 * That is quicker than a look into a map after each run, and a parser for sock_ops has no test run otherwise.
 */
#include "announcement.h"
#include "state.h"
#include "toa.h"

/* Known to probe.py too. The kernel has taken the first 14 bytes for an Ethernet header before the program runs. */
#define RESULT_ROOM 64

struct result {
	__u8 verdict;
	__u8 protocol; /* this and what follows `address`: of an announcement */
	__be16 port;
	struct address address;
	struct address lip;
	struct address rip;
	__be16 lport;
	__be16 rport;
};

/* toa_parse, on a TCP header. */
int ipvsca_probe_toa(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	const void *end = (void *)(long)skb->data_end;
	const struct settings *settings = current_settings();
	struct result *result = data;
	struct client client = {};

	if (!settings || data + RESULT_ROOM > end)
		return 0;
	result->verdict = toa_parse(data + RESULT_ROOM, end, settings, &client);
	result->port = client.port;
	result->address = client.address;
	return 0;
}

/* announcement_look and announcement_read on an IP packet, together as in announced.h. */
int ipvsca_probe_announcement(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	const void *end = (void *)(long)skb->data_end;
	const struct settings *settings = current_settings();
	enum announcement_verdict verdict;
	struct announcing packet = {};
	struct result *result = data;
	struct client client = {};
	struct flow flow = {};

	if (!settings || data + RESULT_ROOM > end)
		return 0;
	verdict = announcement_look(data + RESULT_ROOM, end);
	if (verdict == ANNOUNCEMENT_FOUND && !bpf_skb_load_bytes(skb, RESULT_ROOM, &packet, sizeof(packet)))
		verdict = announcement_read(&packet, settings, &flow, &client);
	result->verdict = verdict;
	result->protocol = flow.protocol;
	result->port = client.port;
	result->address = client.address;
	result->lip = flow.lip;
	result->rip = flow.rip;
	result->lport = flow.lport;
	result->rport = flow.rport;
	return 0;
}
