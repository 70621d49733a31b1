/* Programs of others, on the same hooks: they count how often they run, so that a test sees them work. */
#define NEIGHBOURS 3

BPF_ARRAY(runs, __u64, NEIGHBOURS);

static __always_inline void ran(int which)
{
	__u64 *count = runs.lookup(&which);

	if (count)
		__sync_fetch_and_add(count, 1);
}

int neighbour_ops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		ran(0);
	return 1;
}

int neighbour_peer(struct bpf_sock_addr *call)
{
	ran(1);
	return 1;
}

int neighbour_tc(struct __sk_buff *skb)
{
	ran(2);
	return 0; /* TC_ACT_OK: the last word */
}
