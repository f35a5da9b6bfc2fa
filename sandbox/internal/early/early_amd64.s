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

// func populate(p *[256]byte, length uintptr) int
TEXT ·populate(SB),NOSPLIT,$0-24
	MOVQ	$28, AX	// SYS_madvise
	MOVQ	p+0(FP), DI
	ANDQ	$~32767, DI
	MOVQ	length+8(FP), SI
	MOVQ	$23, DX	// MADV_POPULATE_WRITE
	SYSCALL
	MOVQ	AX, ret+16(FP)
	RET
