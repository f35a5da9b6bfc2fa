#include "textflag.h"

// sbx_start is the entry point of the process (see entry.go). The stack is as
// execve(2) leaves it: argc, then argv.
TEXT sbx_start(SB),NOSPLIT|NOFRAME,$0
	MOVD	RSP, R9
	MOVD	R9, ·earlySP(SB)
	MOVD	0(R9), R0
	ADD	$8, R9, R1
	SUB	$64, R9
	MOVD	R9, RSP
	// There is no g yet. As Go calls Go (ABIInternal).
	MOVD	$0, g
	MOVD	·earlyEntry(SB), R26
	MOVD	(R26), R2
	CALL	(R2)
	MOVD	·earlySP(SB), R9
	MOVD	R9, RSP
	JMP	_rt0_arm64_linux(SB)

GLOBL	·earlySP(SB), NOPTR, $8
