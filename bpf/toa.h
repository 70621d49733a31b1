/*
 * The TCP address option: bytes of a TCP header in, client or verdict out. No map, no helper call, so that it runs the same
 * in a sock_ops, a tc and a test program. The reference is ipvsca/wire/toa.py.
 */
#ifndef IPVSCA_TOA_H
#define IPVSCA_TOA_H

#include "counters.h"
#include "packet.h"
#include "types.h"

#define TOA_LENGTH_IPV4 8
#define TOA_LENGTH_IPV6 20

/* The members and their meaning are those of Verdict in ipvsca/wire/toa.py. */
enum toa_verdict {
	TOA_FOUND,
	TOA_ABSENT,
	TOA_MALFORMED,
	TOA_LENGTH,
	TOA_CLIENT,
};

/* Only for verdicts that are refusals. */
static __always_inline enum refusal refusal_of(enum toa_verdict verdict)
{
	return verdict - TOA_MALFORMED + REFUSED_MALFORMED;
}

static __always_inline bool is_client_kind(const struct settings *settings, __u8 kind)
{
	return settings->kinds[kind >> 6] >> (kind & 63) & 1;
}

static __always_inline enum toa_verdict toa_read(const __u8 *option, const void *end, struct client *client)
{
	const __be32 *address = (const void *)(option + 4);

	if (option + TOA_LENGTH_IPV4 > (const __u8 *)end)
		return TOA_MALFORMED;
	client->port = *(const __be16 *)(option + 2);
	if (option[1] == TOA_LENGTH_IPV4) {
		client->address = mapped(address[0]);
	} else {
		if (option + TOA_LENGTH_IPV6 > (const __u8 *)end)
			return TOA_MALFORMED;
		client->address.word[0] = address[0];
		client->address.word[1] = address[1];
		client->address.word[2] = address[2];
		client->address.word[3] = address[3];
	}
	return can_be_client(client) ? TOA_FOUND : TOA_CLIENT;
}

/*
 * Walk over `length` bytes of options, which follow the fixed part of a header. Of those that are of `kind` (0: of a kind in
 * `settings`) the first one decides that has the length of an address; `at` is its offset where the verdict is TOA_FOUND.
 */
static __always_inline enum toa_verdict options_walk(const __u8 *options, __u64 length, const void *end, __u8 kind,
						     const struct settings *settings, __u64 *at)
{
	/* as a number that the verifier knows, it would be followed through all passes, beside the other: twice the work */
	__u64 other_length = UNKNOWN_ZERO(options[-1]);

#pragma clang loop unroll(disable)
	/* A header without our option has 3 to 6 of them; 40 passes are for one that is all NOPs. */
	for (__u64 pass = 0; pass < MAX_OPTIONS && *at < length; pass++) {
		const __u8 *option = options + *at;
		__u64 size = 1;

		if (option + 1 > (const __u8 *)end || option[0] == OPTION_END_OF_LIST)
			break;
		if (option[0] != OPTION_NO_OPERATION) {
			if (option + 2 > (const __u8 *)end)
				return TOA_MALFORMED;
			size = option[1];
			if (size < 2 || *at + size > length)
				return TOA_MALFORMED;
			if (kind ? option[0] == kind : is_client_kind(settings, option[0])) {
				if (size == TOA_LENGTH_IPV4 || size == TOA_LENGTH_IPV6)
					return TOA_FOUND;
				other_length = size;
			}
		}
		/* the offset is under 64 here anyway; said with a mask, every pass looks alike to the verifier */
		*at = (*at + size) & 63;
	}
	return other_length ? TOA_LENGTH : TOA_ABSENT;
}

/* Read the client from such options. */
static __always_inline enum toa_verdict options_parse(const __u8 *options, __u64 length, const void *end, __u8 kind,
						      const struct settings *settings, struct client *client)
{
	enum toa_verdict verdict;
	__u64 at = 0;

	if (options + length > (const __u8 *)end)
		return TOA_MALFORMED;
	verdict = options_walk(options, length, end, kind, settings, &at);
	FORGET_ORIGIN(verdict); /* or what is found is worked on within the walk, whose passes pay for it */
	return verdict == TOA_FOUND ? toa_read(options + at, end, client) : verdict;
}

/*
 * Read the client from the header at `tcp`, of which everything up to `end` may be read. Fills address and port of `client`
 * where the verdict is TOA_FOUND (they are arbitrary otherwise).
 */
static __always_inline enum toa_verdict toa_parse(const struct tcp *tcp, const void *end,
						  const struct settings *settings, struct client *client)
{
	const __u8 *options = (const __u8 *)(tcp + 1);

	if ((const void *)options > end || tcp_words(tcp) < TCP_MIN_WORDS)
		return TOA_MALFORMED;
	return options_parse(options, tcp_words(tcp) * 4 - sizeof(*tcp), end, 0, settings, client);
}

#endif
