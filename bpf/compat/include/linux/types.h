/* The integer types of the BPF user API, without a kernel tree. __be16 and __be32 are in network byte order. */
#ifndef IPVSCA_COMPAT_TYPES_H
#define IPVSCA_COMPAT_TYPES_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef signed short __s16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef signed long long __s64;

typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;

typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;

typedef _Bool bool;
enum { false, true };

/*
 * nodebug: to follow the variables of every inlined copy is a fifth of the compiler's work, for the sake of source lines in the
 * verifier's log. Take it out to see these.
 */
#define __always_inline inline __attribute__((always_inline, nodebug))
#define offsetof(type, member) __builtin_offsetof(type, member)
#define __aligned_u64 __u64 __attribute__((aligned(8)))

#endif
