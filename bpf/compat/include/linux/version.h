/* bcc asks for a kernel version. We state the oldest one we run on; programs of our types are not tied to it. */
#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + (patch))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
