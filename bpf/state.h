/* What the programs know and count: the only header with map calls. */
#ifndef IPVSCA_STATE_H
#define IPVSCA_STATE_H

#include "maps.h"

#define ADDRESS_BITS 128

static __always_inline const struct settings *current_settings(void)
{
	__u32 only = 0;

	return settings.lookup(&only);
}

/* How much later the next telling is written down, at least: a write at each would have all CPUs fight for one cache line. */
#define TOLD_STEP_NS (1000000000ULL / 16)

static __always_inline struct told *when_told(void)
{
	__u32 only = 0;

	return told.lookup(&only);
}

/* A client is being told ahead of its TCP connection, in one of the two ways of struct told. To be said before it is kept. */
static __always_inline void is_told(__u64 *last_ns, __u64 now_ns)
{
	if (now_ns - *last_ns > TOLD_STEP_NS)
		*last_ns = now_ns;
}

/* Whether a client that was told in this way can still be kept. Within twice its time, so that one past it is found, and counted. */
static __always_inline bool may_be_kept(__u64 last_ns, __u64 now_ns, const struct settings *settings)
{
	return !last_ns || (__s64)(now_ns - last_ns) < (__s64)(settings->tcp_timeout_ns * 2);
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
