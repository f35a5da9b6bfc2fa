#include "textflag.h"

// func rawClone(flags, stack, entry uintptr, t *table) (pid, errno uintptr)
TEXT ·rawClone(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	entry+16(FP), R13
	MOVQ	t+24(FP), R12
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$56, AX	// SYS_clone
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+32(FP)
	NEGQ	AX
	MOVQ	AX, errno+40(FP)
	RET
ok:
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, pid+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
child:
	// On the new stack. After a call of assembly Go loads the current g, which
	// the child has no use for, from thread-local storage; that of any but the
	// first thread lies in the heap, which the child does not have. So it gets
	// one above its stack: arch_prctl(ARCH_SET_FS).
	MOVQ	$0x1002, DI
	LEAQ	40(SP), SI
	MOVQ	$158, AX
	SYSCALL
	// As Go calls Go (ABIInternal): a wrapper would call the race detector.
	MOVQ	R12, AX
	XORPS	X15, X15
	XORL	R14, R14
	CALL	R13
	INT	$3

// func rawVfork(flags uintptr) (pid, errno uintptr)
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ	flags+0(FP), DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	$56, AX	// SYS_clone
	POPQ	R12	// the child will overwrite the return address
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+8(FP)
	NEGQ	AX
	MOVQ	AX, errno+16(FP)
	RET
ok:
	MOVQ	AX, pid+8(FP)
	MOVQ	$0, errno+16(FP)
	RET
