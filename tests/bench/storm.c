// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packets of one kind from many flows, as many as can be, from addresses that nobody has: `storm RIP PORT KIND FLOWS LIP SECONDS`,
 * or with a number behind it that many packets. Each flow comes as often as any other: in an order that no cache foresees, or where a
 * number is given, one behind the other, so that what is learnt then does not lie in memory in the order in which it is asked for.
 * Which LIP:lport a flow has, storms.py knows too. Says how many packets were sent.
 *
 *     datagram       UDP, as datagram_from() has it
 *     announcement   names the client of a UDP flow
 *     segment        an established connection's TCP segment, as far as tc ingress can tell
 *     syn            with the options of a usual SYN
 *     syn-option     and the address option, each time with another sequence number
 *     syn-flood      the same with a right checksum: the kernel answers it, and waits
 *     ipo, opp       the datagram tells its client itself
 *
 * Other TCP segments have a wrong checksum: they pass tc ingress, and the kernel drops them behind it.
 */
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include "bench.h"
#include "storm.h"

#define AT_ONCE 64
#define FIRST_LPORT 1024
#define LPORTS 60000
#define PROTOCOL_OPP 248

struct uoa {
	unsigned char kind, length;
	unsigned short port;
	unsigned int address;
} __attribute__((packed));

struct packet {
	struct iphdr ip;
	union {
		struct {
			struct uoa option;
			struct udphdr udp;
			struct datagram datagram;
		} __attribute__((packed)) ipo;
		struct {
			unsigned char version, protocol;
			unsigned short length;
			struct uoa option;
			struct udphdr udp;
			struct datagram datagram;
		} __attribute__((packed)) opp;
		struct {
			struct udphdr udp;
			struct datagram datagram;
		} __attribute__((packed));
		struct {
			struct tcphdr tcp;
			unsigned char options[40];
		};
		struct {
			struct icmphdr icmp;
			unsigned char magic, protocol;
			unsigned short lport, rport;
			unsigned char kind, length;
			unsigned short port;
			unsigned int address;
		} __attribute__((packed));
	};
} __attribute__((packed));

static const unsigned char syn_options[] = { 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7 };
static const unsigned char segment_options[] = { 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1 };

static struct sockaddr_in server;
static unsigned int first_lip;
static unsigned int sequence;

static struct sockaddr_in local_of(unsigned long flow)
{
	struct sockaddr_in local = { .sin_family = AF_INET };

	local.sin_addr.s_addr = htonl(first_lip + flow / LPORTS);
	local.sin_port = htons(FIRST_LPORT + flow % LPORTS);
	return local;
}

static unsigned short checksum(const void *data, unsigned int length)
{
	typedef unsigned short __attribute__((may_alias)) part; /* what it reads was written as other types */
	const part *word = data;
	unsigned int sum = 0;

	for (; length > 1; length -= 2)
		sum += *word++;
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static struct udphdr udp_from(const struct sockaddr_in *local)
{
	return (struct udphdr){ .source = local->sin_port,
				.dest = server.sin_port,
				.len = htons(sizeof(struct udphdr) + DATAGRAM_LENGTH) };
}

static unsigned int put_datagram(struct packet *packet, const struct sockaddr_in *local)
{
	packet->ip.protocol = IPPROTO_UDP;
	packet->udp = udp_from(local);
	packet->datagram = datagram_from(local);
	return sizeof(packet->udp) + DATAGRAM_LENGTH;
}

static struct uoa uoa_of(const struct sockaddr_in *local)
{
	struct sockaddr_in client = client_behind(local);

	return (struct uoa){ 0x9f, sizeof(struct uoa), client.sin_port, client.sin_addr.s_addr };
}

static unsigned int put_ipo(struct packet *packet, const struct sockaddr_in *local)
{
	packet->ip.protocol = IPPROTO_UDP;
	packet->ip.ihl += sizeof(packet->ipo.option) / 4;
	packet->ipo.option = uoa_of(local);
	packet->ipo.udp = udp_from(local);
	packet->ipo.datagram = datagram_from(local);
	return offsetof(struct packet, ipo.datagram) - sizeof(packet->ip) + DATAGRAM_LENGTH;
}

static unsigned int put_opp(struct packet *packet, const struct sockaddr_in *local)
{
	packet->ip.protocol = PROTOCOL_OPP;
	packet->opp.version = 1 << 4;
	packet->opp.protocol = IPPROTO_UDP;
	packet->opp.length = htons(offsetof(struct packet, opp.udp) - sizeof(packet->ip));
	packet->opp.option = uoa_of(local);
	packet->opp.udp = udp_from(local);
	packet->opp.datagram = datagram_from(local);
	return offsetof(struct packet, opp.datagram) - sizeof(packet->ip) + DATAGRAM_LENGTH;
}

static unsigned int put_announcement(struct packet *packet, const struct sockaddr_in *local)
{
	struct sockaddr_in client = client_behind(local);
	const unsigned int length = 22;

	packet->ip.protocol = IPPROTO_ICMP;
	packet->icmp = (struct icmphdr){ .type = ICMP_ECHO, .un.echo.id = 0x1234 };
	packet->magic = 123;
	packet->protocol = IPPROTO_UDP;
	packet->lport = local->sin_port;
	packet->rport = server.sin_port;
	packet->kind = 200;
	packet->length = 8;
	packet->port = client.sin_port;
	packet->address = client.sin_addr.s_addr;
	packet->icmp.checksum = checksum(&packet->icmp, length);
	return length;
}

static unsigned int put_tcp(struct packet *packet, const struct sockaddr_in *local, const unsigned char *options,
			    unsigned int length)
{
	packet->ip.protocol = IPPROTO_TCP;
	packet->tcp = (struct tcphdr){ .source = local->sin_port,
				       .dest = server.sin_port,
				       .seq = htonl(sequence),
				       .doff = (sizeof(packet->tcp) + length) / 4 };
	memcpy(packet->options, options, length);
	return sizeof(packet->tcp) + length;
}

static unsigned int put_segment(struct packet *packet, const struct sockaddr_in *local)
{
	unsigned int length = put_tcp(packet, local, segment_options, sizeof(segment_options));

	packet->tcp.ack = 1;
	return length;
}

static unsigned int put_syn(struct packet *packet, const struct sockaddr_in *local)
{
	unsigned int length = put_tcp(packet, local, syn_options, sizeof(syn_options));

	packet->tcp.syn = 1;
	return length;
}

static unsigned int put_syn_with_option(struct packet *packet, const struct sockaddr_in *local)
{
	struct sockaddr_in client = client_behind(local);
	unsigned char options[sizeof(syn_options) + 8] = { 254, 8 };

	sequence++;
	memcpy(options + 2, &client.sin_port, 2);
	memcpy(options + 4, &client.sin_addr, 4);
	memcpy(options + 8, syn_options, sizeof(syn_options));
	put_tcp(packet, local, options, sizeof(options));
	packet->tcp.syn = 1;
	return sizeof(packet->tcp) + sizeof(options);
}

static unsigned int put_syn_of_flood(struct packet *packet, const struct sockaddr_in *local)
{
	unsigned int length = put_syn_with_option(packet, local);
	struct {
		unsigned int source, destination;
		unsigned short protocol, length;
		unsigned char segment[sizeof(struct tcphdr) + sizeof(packet->options)];
	} summed = { packet->ip.saddr, packet->ip.daddr, htons(IPPROTO_TCP), htons(length), {} };

	packet->tcp.window = htons(65535);
	memcpy(summed.segment, &packet->tcp, length);
	packet->tcp.check = checksum(&summed, offsetof(typeof(summed), segment) + length);
	return length;
}

static const struct kind {
	const char *name;
	unsigned int (*put)(struct packet *packet, const struct sockaddr_in *local);
} kinds[] = {
	{ "datagram", put_datagram },
	{ "announcement", put_announcement },
	{ "segment", put_segment },
	{ "syn", put_syn },
	{ "syn-option", put_syn_with_option },
	{ "syn-flood", put_syn_of_flood },
	{ "ipo", put_ipo },
	{ "opp", put_opp },
	{},
};

static const struct kind *kind_of(const char *name)
{
	const struct kind *kind = kinds;

	while (kind->name && strcmp(kind->name, name))
		kind++;
	if (!kind->name)
		errx(2, "there is no kind %s", name);
	return kind;
}

static unsigned long blow(int socket, const struct kind *kind, unsigned long flows, unsigned long stride, double until,
			  unsigned long most)
{
	static struct packet packets[AT_ONCE];
	static struct iovec parts[AT_ONCE];
	static struct mmsghdr messages[AT_ONCE];
	unsigned long sent = 0;

	while (sent < most && now() < until) {
		unsigned int count = most - sent < AT_ONCE ? most - sent : AT_ONCE;

		for (unsigned int n = 0; n < count; n++) {
			struct sockaddr_in local = local_of((sent + n) % flows * stride % flows);

			packets[n].ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64 };
			packets[n].ip.saddr = local.sin_addr.s_addr;
			packets[n].ip.daddr = server.sin_addr.s_addr;
			parts[n].iov_base = &packets[n];
			parts[n].iov_len = sizeof(struct iphdr) + kind->put(&packets[n], &local);
			messages[n].msg_hdr.msg_iov = &parts[n];
			messages[n].msg_hdr.msg_iovlen = 1;
			messages[n].msg_hdr.msg_name = &server;
			messages[n].msg_hdr.msg_namelen = sizeof(server);
		}
		if (sendmmsg(socket, messages, count, 0) != (int)count)
			err(1, "sendmmsg");
		sent += count;
	}
	return sent;
}

int main(int argc, char **argv)
{
	const struct kind *kind;
	unsigned long flows, most, stride;
	struct sockaddr_in lip;
	double until;
	int socket_;

	if (argc != 7 && argc != 8)
		errx(2, "usage: storm RIP PORT KIND FLOWS LIP SECONDS [PACKETS]");
	server = end_of(argv[1], argv[2]);
	kind = kind_of(argv[3]);
	flows = strtoul(argv[4], 0, 10);
	lip = end_of(argv[5], "0");
	first_lip = ntohl(lip.sin_addr.s_addr);
	until = now() + atof(argv[6]);
	most = argc == 8 ? strtoul(argv[7], 0, 10) : -1ul;
	stride = argc == 8 ? 1 : stride_of(flows);
	sequence = now() * 1e6; /* not those of the run before */
	socket_ = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (socket_ < 0)
		err(1, "raw socket");
	printf("%lu\n", blow(socket_, kind, flows, stride, until, most));
	return 0;
}
