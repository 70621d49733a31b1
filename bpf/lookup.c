/*
 * cgroup getsockopt: DPVS's lookup calls, as toa.ko and uoa.ko answer them (docs/lookup-calls.md). Every other call ends as it
 * would without this program. Where the kernel does not let a program choose the error (KERNEL_CHOOSES_ERROR, before 5.18),
 * its own ENOPROTOOPT stays.
 */
#include "received.h"
#include "socket.h"
#include "ways.h"

#ifndef LAST_DATAGRAM
#include "question.h"
#endif

#define LEVEL_IP 0 /* IPPROTO_IP */
#define UOA_LOOKUP 2048
#define NAT64_PEER 4096

#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define ENOENT 2
#define EFAULT 14
#define EINVAL 22
#define ENOPROTOOPT 92
#define ENOTCONN 107

/* Who is behind saddr:sport? Families are in host byte order; IPv4 addresses lie in the first word. */
struct uoa_lookup {
	__u16 family;
	struct address saddr;
	struct address daddr; /* all zero: any */
	__be16 sport;
	__be16 dport;
	__u16 real_family;
	struct address real_saddr;
	__be16 real_sport;
} __attribute__((packed));

/* C aligns it to 4 bytes; an application may have packed it all the same. */
struct nat64_peer {
	struct address address;
	__be16 port;
	__u8 pad[2];
};

#define PACKED_NAT64_PEER offsetof(struct nat64_peer, pad)

/* What is longer than a page is not shown to us; a length of 0 says that what the kernel has written is to stay. */
static __always_inline int leave(struct bpf_sockopt *call)
{
	if ((__s32)CONTEXT_WORD(call->optlen) > call->optval_end - call->optval)
		call->optlen = 0;
#ifdef KERNEL_CHOOSES_ERROR
	/* such a kernel writes our zeros over the caller's buffer for an error too */
	else if ((__s32)CONTEXT_WORD(call->retval) < 0)
		call->optlen = 0;
#endif
	return 1;
}

static __always_inline int refuse(struct bpf_sockopt *call, int error, __u32 counter)
{
	count(counter);
#ifndef KERNEL_CHOOSES_ERROR
	bpf_set_retval(-error);
#endif
	return leave(call);
}

static __always_inline int answer(struct bpf_sockopt *call, __u32 length)
{
	CONTEXT_WORD(call->optlen) = length;
	CONTEXT_WORD(call->retval) = 0;
	count(COUNTER_getsockopt_answered);
	return 1;
}

/* Nobody has answered: the kernel knows no such option, or toa.ko and uoa.ko, beside us, do not know the client. */
static __always_inline bool is_open(struct bpf_sockopt *call)
{
	__s32 retval = CONTEXT_WORD(call->retval);

	return retval == -ENOPROTOOPT || retval == -ENOENT || retval == -EINVAL;
}

static __always_inline struct address address_asked(__u16 family, struct address address)
{
	if (family == AF_INET6)
		return address;
	return address.word[0] ? mapped(address.word[0]) : NOWHERE;
}

/*
 * The flow that is asked about, as a datagram of it is looked up when this socket receives it. False where no such datagram
 * can reach this socket. One that is bound to no port is there to ask only, and may ask about any flow, as with uoa.ko.
 */
static __always_inline bool flow_asked(struct bpf_sock *socket, const struct uoa_lookup *question, struct flow *flow)
{
	struct address daddr = address_asked(question->family, question->daddr);

	flow->lip = address_asked(question->family, question->saddr);
	flow->lport = question->sport;
	flow->protocol = PROTOCOL_UDP;
	local_end(socket, &flow->rip, &flow->rport);
	if (!flow->rport)
		flow->rport = question->dport;
	if (is_nowhere(&flow->rip))
		flow->rip = daddr;
	return flow->rport == question->dport && (is_nowhere(&daddr) || is_same(&daddr, &flow->rip));
}

/* The client of a flow. In place of LIP:lport it may name the client itself, as recvfrom has given it. */
static __always_inline bool client_asked(const struct flow *flow, struct client *client)
{
	const struct settings *settings = current_settings();
	struct endpoint told = { .address = flow->lip, .port = flow->lport };
	struct flow way = *flow;
	struct reply reply;
	struct learnt *learnt;

	if (!settings)
		return false;
	learnt = find_flow(flow, settings->udp_timeout_ns, bpf_ktime_get_ns());
	if (learnt) {
		*client = learnt->client;
		return is_still_of(learnt, flow);
	}
	client->address = told.address;
	client->port = told.port;
	/* find_way_back() reads a clock that programs of this kind may not read */
	reply = reply_to(&told.address, told.port, &way);
	return find_way(&reply, &way) && is_flow_of(&way, &told, false, settings->udp_timeout_ns, bpf_ktime_get_ns());
}

#ifdef LAST_DATAGRAM
/* Not what the caller asks, but what it is about to ask, having received. */
static __always_inline bool read_uoa_lookup(struct bpf_sockopt *call, struct uoa_lookup *question)
{
	struct flow flow;

	if (!flow_received(call->sk, &flow))
		return false;
	question->family = is_mapped(&flow.lip) ? AF_INET : AF_INET6;
	question->saddr = is_mapped(&flow.lip) ? (struct address){ .word = { flow.lip.word[3] } } : flow.lip;
	question->sport = flow.lport;
	question->dport = flow.rport;
	return true;
}
#else
static __always_inline bool read_uoa_lookup(struct bpf_sockopt *call, struct uoa_lookup *question)
{
	return read_question(LEVEL_IP, UOA_LOOKUP, question, sizeof(*question));
}
#endif

static __always_inline int look_up_uoa(struct bpf_sockopt *call)
{
	struct uoa_lookup *answered = call->optval;
	struct uoa_lookup lookup = {};
	struct client client = {};
	struct flow flow = {};

	if ((void *)(answered + 1) > call->optval_end)
		return refuse(call, EINVAL, COUNTER_getsockopt_invalid);
	if (!read_uoa_lookup(call, &lookup)) {
		count(COUNTER_getsockopt_unreadable);
		return leave(call);
	}
	if (lookup.family != AF_INET && lookup.family != AF_INET6)
		return refuse(call, EINVAL, COUNTER_getsockopt_invalid);
	if (!flow_asked(call->sk, &lookup, &flow) || !client_asked(&flow, &client))
		return refuse(call, ENOENT, COUNTER_getsockopt_unknown);
	lookup.real_sport = client.port;
	if (is_mapped(&client.address)) {
		lookup.real_family = AF_INET;
		lookup.real_saddr = (struct address){ .word = { client.address.word[3] } };
	} else {
		lookup.real_family = AF_INET6;
		lookup.real_saddr = client.address;
	}
	*answered = lookup;
	return answer(call, sizeof(lookup));
}

static __always_inline bool is_connected(const struct bpf_sock *socket)
{
	return socket->state != BPF_TCP_CLOSE && socket->state != BPF_TCP_SYN_SENT && socket->state != BPF_TCP_LISTEN;
}

static __always_inline bool is_ipv4(struct bpf_sock *socket)
{
	struct address address = {};
	__be16 port;

	local_end(socket, &address, &port);
	return is_mapped(&address);
}

static __always_inline int look_up_nat64(struct bpf_sockopt *call)
{
	struct nat64_peer *answered = call->optval;
	struct bpf_sock *socket = call->sk;
	const struct client *client;

	if ((void *)&answered->pad > call->optval_end)
		return refuse(call, EINVAL, COUNTER_getsockopt_invalid);
	if (!is_connected(socket))
		return refuse(call, ENOTCONN, COUNTER_getsockopt_invalid);
	client = clients.sk_storage_get(socket, 0, 0);
	if (!client)
		return refuse(call, EINVAL, COUNTER_getsockopt_unknown);
	if (is_mapped(&client->address) || !is_ipv4(socket))
		return refuse(call, EFAULT, COUNTER_getsockopt_not_nat64);
	answered->address = client->address;
	answered->port = client->port;
	return answer(call, (void *)(answered + 1) > call->optval_end ? PACKED_NAT64_PEER : sizeof(*answered));
}

/* The type too: raw sockets have these protocols as well, and netlink has numbers of its own for protocols. */
static __always_inline bool is_of(const struct bpf_sock *socket, __u32 type, __u32 protocol)
{
	return socket->type == type && socket->protocol == protocol;
}

int ipvsca_lookup(struct bpf_sockopt *call)
{
	__u32 option = CONTEXT_WORD(call->optname);
	struct bpf_sock *socket = call->sk;

	if (CONTEXT_WORD(call->level) != LEVEL_IP || !is_open(call))
		return leave(call);
	if (option == UOA_LOOKUP && is_of(socket, SOCK_DGRAM, PROTOCOL_UDP))
		return look_up_uoa(call);
	if (option == NAT64_PEER && is_of(socket, SOCK_STREAM, PROTOCOL_TCP))
		return look_up_nat64(call);
	return leave(call);
}
