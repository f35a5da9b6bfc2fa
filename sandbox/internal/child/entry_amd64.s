#include "textflag.h"

// sbx_start is the entry point of the process (see entry.go). The stack is as
// execve(2) leaves it: argc, then argv.
TEXT sbx_start(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, BX
	MOVQ	SP, ·earlySP(SB)
	ANDQ	$~15, SP
	SUBQ	$64, SP
	// After a call of assembly Go loads the current g from thread-local storage.
	// There is none yet; the runtime sets up its own.
	MOVQ	$0x1002, DI	// ARCH_SET_FS
	LEAQ	·earlyTLS+8(SB), SI
	MOVQ	$158, AX	// SYS_arch_prctl
	SYSCALL
	// As Go calls Go (ABIInternal).
	MOVQ	·earlySP(SB), CX
	MOVQ	0(CX), AX
	LEAQ	8(CX), BX
	XORPS	X15, X15
	XORL	R14, R14
	MOVQ	·earlyEntry(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	MOVQ	·earlySP(SB), SP
	XORL	DX, DX
	JMP	_rt0_amd64_linux(SB)

GLOBL	·earlySP(SB), NOPTR, $8
GLOBL	·earlyTLS(SB), NOPTR, $16
