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

// image is where the linker has put the program: its code and read-only data, and
// what begins as zeroes.
DATA	·image+0(SB)/8, $runtime·text(SB)
DATA	·image+8(SB)/8, $runtime·epclntab(SB)
DATA	·image+16(SB)/8, $runtime·bss(SB)
DATA	·image+24(SB)/8, $runtime·ebss(SB)
GLOBL	·image(SB), NOPTR, $32
