/*
 * Every counter there is: its name, and what one more of it means. ipvsca/counters.py reads this list; stats and
 * metrics are made from it. Refusals of one place stand in the order of enum refusal.
 */
#ifndef IPVSCA_COUNTERS_H
#define IPVSCA_COUNTERS_H

/* clang-format off */
#define COUNTERS(COUNTER) \
	COUNTER(tcp_restored_ack,        "TCP connections whose client came in the segment that ended the handshake") \
	COUNTER(tcp_restored_syn,        "TCP connections whose client came in their SYN") \
	COUNTER(tcp_restored_announcement, "TCP connections whose client came in an announcement") \
	COUNTER(tcp_no_client,           "TCP connections accepted for which no client was told") \
	COUNTER(syn_learnt,              "SYNs whose option was kept until their connection is established") \
	COUNTER(syn_expired,             "clients learnt from a SYN whose connection was established after tcp_timeout") \
	COUNTER(getpeername_restored,    "accept and getpeername calls answered with the client") \
	COUNTER(getpeername_unshowable,  "accept and getpeername calls on an IPv4 socket whose client has IPv6: the LIP stays") \
	COUNTER(announcement_learnt,     "announcements that were believed") \
	COUNTER(flows_new,               "flows that became known") \
	COUNTER(flows_replaced,          "flows whose LIP:lport was announced for another client") \
	COUNTER(flows_taken_over,        "flows that a TCP connection took over when it was established") \
	COUNTER(recvmsg_restored,        "datagrams received whose source was given as the client") \
	COUNTER(recvmsg_ambiguous,       "datagrams of a LIP:lport that speaks to several of our addresses, on a socket bound to none: the LIP stays") \
	COUNTER(recvmsg_unshowable,      "datagrams received of a client that has another IP version than its LIP (NAT64): the LIP stays") \
	COUNTER(sendmsg_redirected,      "datagrams sent to a client that went to its director") \
	COUNTER(connect_redirected,      "connects to a client that went to its director") \
	COUNTER(refused_ack_malformed,   "established, but the TCP options are malformed") \
	COUNTER(refused_ack_length,      "established, but the option has a length other than 8 or 20") \
	COUNTER(refused_ack_client,      "established, but the option names an address or port that no client can have") \
	COUNTER(refused_ack_untrusted,   "established, with an option, from a source that is not trusted") \
	COUNTER(refused_ack_memory,      "established, with an option, but the kernel had no memory for it") \
	COUNTER(refused_ack_conflict,    "established, but its SYN named another client than the segment that ended the handshake") \
	COUNTER(refused_syn_malformed,   "SYN with malformed TCP options or headers") \
	COUNTER(refused_syn_length,      "SYN whose option has a length other than 8 or 20") \
	COUNTER(refused_syn_client,      "SYN whose option names an address or port that no client can have") \
	COUNTER(refused_syn_untrusted,   "SYN with an option from a source that is not trusted") \
	COUNTER(refused_syn_memory,      "SYN with an option that could not be kept: table full or no memory") \
	COUNTER(refused_syn_fragment,    "TCP in an IP fragment: not looked at") \
	COUNTER(refused_syn_conflict,    "SYN that names another client than one of the same handshake before") \
	COUNTER(refused_announcement_fragment, "announcement in an IP fragment") \
	COUNTER(refused_announcement_length, "announcement of a length other than 42, or with IP options") \
	COUNTER(refused_announcement_checksum, "announcement with a wrong checksum") \
	COUNTER(refused_announcement_malformed, "announcement in which a field is not as it has to be") \
	COUNTER(refused_announcement_kind, "announcement with an option kind that is not configured") \
	COUNTER(refused_announcement_client, "announcement of an address or port that no client can have") \
	COUNTER(refused_announcement_untrusted, "announcement from a source that is not trusted") \
	COUNTER(refused_announcement_host, "announcement that was not sent to this host alone (broadcast, multicast)") \
	COUNTER(refused_announcement_memory, "announcement that could not be kept: no memory") \
	COUNTER(ipo_learnt,              "datagrams whose option in the IP header (UOA, ipo) was believed") \
	COUNTER(opp_learnt,              "datagrams whose header between IP and UDP (UOA, opp) was believed and taken away") \
	COUNTER(refused_ipo_malformed,   "datagram with malformed IP options, or with ipo and no whole UDP header") \
	COUNTER(refused_ipo_length,      "datagram whose ipo has a length other than 8 or 20") \
	COUNTER(refused_ipo_client,      "datagram whose ipo names an address or port that no client can have") \
	COUNTER(refused_ipo_checksum,    "datagram with ipo whose IP header has a wrong checksum") \
	COUNTER(refused_ipo_untrusted,   "datagram with ipo from a source that is not trusted") \
	COUNTER(refused_ipo_host,        "datagram with ipo that was not sent to this host alone (broadcast, multicast)") \
	COUNTER(refused_ipo_memory,      "datagram whose ipo could not be kept: no memory") \
	COUNTER(refused_opp_malformed,   "opp in which a field is not as it has to be, or without a whole datagram behind it") \
	COUNTER(refused_opp_length,      "opp whose lengths are not those of one client's address") \
	COUNTER(refused_opp_client,      "opp that names an address or port that no client can have") \
	COUNTER(refused_opp_checksum,    "opp behind an IP header with a wrong checksum") \
	COUNTER(refused_opp_fragment,    "opp in an IP fragment") \
	COUNTER(refused_opp_untrusted,   "opp from a source that is not trusted") \
	COUNTER(refused_opp_host,        "opp that was not sent to this host alone (broadcast, multicast)") \
	COUNTER(refused_opp_memory,      "opp whose client could not be kept: no memory") \
	COUNTER(refused_opp_room,        "opp that the kernel did not let us take away: inside VLAN tags, or no memory") \
	COUNTER(getsockopt_answered,     "lookup calls of DPVS answered with the client") \
	COUNTER(getsockopt_unknown,      "lookup calls about a connection or flow whose client is not known") \
	COUNTER(getsockopt_not_nat64,    "lookup calls for the IPv6 client of a connection that has none: getpeername tells the client") \
	COUNTER(getsockopt_invalid,      "lookup calls with too small a buffer or an unknown address family, or on a socket that is not connected") \
	COUNTER(getsockopt_unreadable,   "lookup calls whose question could not be read")
/* clang-format on */

#define COUNTER_MEMBER(name, help) COUNTER_##name,
enum counter_id { COUNTERS(COUNTER_MEMBER) COUNTER_COUNT };
#undef COUNTER_MEMBER

/* Room for counters to come. New ones go to the end of the list: a map that is loaded keeps its numbers. */
#define MAX_COUNTERS 128

/* Why an option was not believed. Added to COUNTER_refused_ack_malformed or COUNTER_refused_syn_malformed. */
enum refusal {
	REFUSED_MALFORMED,
	REFUSED_LENGTH,
	REFUSED_CLIENT,
	REFUSED_UNTRUSTED,
	REFUSED_MEMORY,
};

#endif
