/* bcc's copy of bpf.h includes this for the opcodes of classic BPF; our programs need nothing of it. */
