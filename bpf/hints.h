/* Whether a table can have anything of what is looked for: a table of bytes that stays in a CPU's cache is asked first. */
#ifndef IPVSCA_HINTS_H
#define IPVSCA_HINTS_H

#include "maps.h"

/* In place of a flow's protocol. */
#define HINT_OF_SYN 0 /* a SYN's option tells the client */
#define HINT_OF_DOUBT 1 /* a flow, of whatever protocol, has an entry of its own */

static __always_inline __u8 *hint_of(__u32 hash)
{
	__u32 only = 0;
	struct hints *found = hints.lookup(&only);

	return found ? &found->is_used[hash * MIXER / (0x100000000 / HINTS)] : 0;
}

/* What one LIP tells of one service of ours shares a hint: of connections' clients in SYNs, or of a protocol's flows. */
static __always_inline __u8 *hint_of_told(const struct address *lip, __be16 rport, __u8 how)
{
	return hint_of(mixed(lip) ^ (__u32)how << 16 ^ rport);
}

/* So do all clients that are answered from one end of ours. */
static __always_inline __u8 *hint_of_reply(const struct reply *reply)
{
	return hint_of(reply->rip_mark ^ (__u32)reply->rport << 16);
}

static __always_inline bool is_set(const __u8 *hint)
{
	return hint && *hint;
}

/* Not written over and over: every CPU has the cache line. */
static __always_inline void set(__u8 *hint)
{
	if (hint && !*hint)
		*hint = 1;
}

#endif
