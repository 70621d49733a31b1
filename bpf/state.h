/* Settings, trust, the clock, counting. */
#ifndef IPVSCA_STATE_H
#define IPVSCA_STATE_H

#include "maps.h"

#define ADDRESS_BITS 128

static __always_inline const struct settings *current_settings(void)
{
	__u32 only = 0;

	return settings.lookup(&only);
}

/* The time, no more exact than the kernel's tick, which costs less to read (Linux 5.11): what is compared with it is seconds. */
static __always_inline __u64 coarse_ns(void)
{
#ifdef COARSE_CLOCK
	return bpf_ktime_get_coarse_ns();
#else
	return bpf_ktime_get_ns();
#endif
}

/* Where it stands to which director a TCP connect to a client goes; another client's may stand there. */
static __always_inline struct director *director_of(const struct endpoint *client)
{
	__u32 place = (mixed(&client->address) ^ client->port) * MIXER / (0x100000000 / CONNECTS);

	return connects.lookup(&place);
}

static __always_inline bool is_trusted(const struct address *source)
{
	struct prefix key = { .length = ADDRESS_BITS, .address = *source };
	const __u8 *is = trusted.lookup(&key);

	return is && *is;
}

static __always_inline void count(__u32 id)
{
	struct counter *counter = counters.lookup(&id);

	if (counter)
		__sync_fetch_and_add(&counter->count, 1); /* a softirq may interrupt this CPU in the middle */
}

/* Count, and remember when and from which source it was: `check` tells people. */
static __always_inline void count_from(__u32 id, const struct address *source, __u64 now_ns)
{
	struct counter *counter = counters.lookup(&id);

	if (!counter)
		return;
	__sync_fetch_and_add(&counter->count, 1);
	counter->last_ns = now_ns;
	counter->last_source = *source;
}

#endif
