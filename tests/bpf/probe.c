/*
 * tc, only ever run by BPF_PROG_TEST_RUN: what toa_parse says of the bytes behind the first RESULT_ROOM, written into those. It
 * stands for what sock_ops sees, which has no test run.
 */
#include "state.h"
#include "toa.h"

/* Known to probe.py too. The kernel has taken the first 14 bytes for an Ethernet header before the program runs. */
#define RESULT_ROOM 32

struct result {
	__u8 verdict;
	__u8 pad;
	__be16 port;
	struct address address;
};

int ipvsca_probe(struct __sk_buff *skb)
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
