/* bcc includes this first in every compilation. It stands for the kernel's configuration. */
#define CONFIG_BPF_SYSCALL 1
