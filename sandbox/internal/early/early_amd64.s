#include "textflag.h"

// func prlimit(old *[2]uint64) int
TEXT ·prlimit(SB),NOSPLIT,$0-16
	MOVQ	$302, AX	// SYS_prlimit64
	MOVQ	$0, DI		// pid: the caller
	MOVQ	$7, SI		// RLIMIT_NOFILE
	MOVQ	$0, DX		// no new limit
	MOVQ	old+0(FP), R10
	SYSCALL
	MOVQ	AX, ret+8(FP)
	RET

// func madvise(addr, length, advice uintptr) int
TEXT ·madvise(SB),NOSPLIT,$0-32
	MOVQ	$28, AX	// SYS_madvise
	MOVQ	addr+0(FP), DI
	MOVQ	length+8(FP), SI
	MOVQ	advice+16(FP), DX
	SYSCALL
	MOVQ	AX, ret+24(FP)
	RET
