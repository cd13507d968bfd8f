#include "textflag.h"

// MD5 of two streams at one time (RFC 1321), their steps in turn: what one waits for, the other does meanwhile.
//
// The state of the first is in AX, BX, CX and DX, its block at SI, what comes between in R12; the state of the second in R8 to R11, its
// block at DI, what comes between in R13.

// Each step is a = b + (a + fn(b, c, d) + word + k) <<< s, and begins with what does not wait for b, which is the latest.
#define FIRST(a, d, p, at, k, t) \
	ADDL at(p), a \
	MOVL d, t     \
	ADDL $k, a

#define LAST(a, b, s, t) \
	ADDL t, a  \
	ROLL $s, a \
	ADDL b, a

// F is (b AND c) OR (NOT b AND d).
#define F(a, b, c, d, p, at, k, s, t) \
	FIRST(a, d, p, at, k, t) \
	XORL c, t                \
	ANDL b, t                \
	XORL d, t                \
	LAST(a, b, s, t)

// G is (b AND d) OR (c AND NOT d), which have no bit in common, so that one can be added before the other is there.
#define G(a, b, c, d, p, at, k, s, t) \
	FIRST(a, d, p, at, k, t) \
	NOTL t                   \
	ANDL c, t                \
	ADDL t, a                \
	MOVL d, t                \
	ANDL b, t                \
	LAST(a, b, s, t)

// H is b XOR c XOR d.
#define H(a, b, c, d, p, at, k, s, t) \
	FIRST(a, d, p, at, k, t) \
	XORL c, t                \
	XORL b, t                \
	LAST(a, b, s, t)

// I is c XOR (b OR NOT d).
#define I(a, b, c, d, p, at, k, s, t) \
	FIRST(a, d, p, at, k, t) \
	NOTL t                   \
	ORL  b, t                \
	XORL c, t                \
	LAST(a, b, s, t)

// func blocks2(state *[2][4]uint32, first, second *byte, blocks int)
TEXT ·blocks2(SB), NOSPLIT, $8-32
	MOVQ state+0(FP), R15
	MOVQ first+8(FP), SI
	MOVQ second+16(FP), DI
	MOVQ blocks+24(FP), R12
	MOVQ R12, left-8(SP)
	MOVL 0(R15), AX
	MOVL 4(R15), BX
	MOVL 8(R15), CX
	MOVL 12(R15), DX
	MOVL 16(R15), R8
	MOVL 20(R15), R9
	MOVL 24(R15), R10
	MOVL 28(R15), R11
	TESTQ R12, R12
	JLE  done

block:
	F(AX, BX, CX, DX, SI, 0, 0xd76aa478, 7, R12)
	F(R8, R9, R10, R11, DI, 0, 0xd76aa478, 7, R13)
	F(DX, AX, BX, CX, SI, 4, 0xe8c7b756, 12, R12)
	F(R11, R8, R9, R10, DI, 4, 0xe8c7b756, 12, R13)
	F(CX, DX, AX, BX, SI, 8, 0x242070db, 17, R12)
	F(R10, R11, R8, R9, DI, 8, 0x242070db, 17, R13)
	F(BX, CX, DX, AX, SI, 12, 0xc1bdceee, 22, R12)
	F(R9, R10, R11, R8, DI, 12, 0xc1bdceee, 22, R13)
	F(AX, BX, CX, DX, SI, 16, 0xf57c0faf, 7, R12)
	F(R8, R9, R10, R11, DI, 16, 0xf57c0faf, 7, R13)
	F(DX, AX, BX, CX, SI, 20, 0x4787c62a, 12, R12)
	F(R11, R8, R9, R10, DI, 20, 0x4787c62a, 12, R13)
	F(CX, DX, AX, BX, SI, 24, 0xa8304613, 17, R12)
	F(R10, R11, R8, R9, DI, 24, 0xa8304613, 17, R13)
	F(BX, CX, DX, AX, SI, 28, 0xfd469501, 22, R12)
	F(R9, R10, R11, R8, DI, 28, 0xfd469501, 22, R13)
	F(AX, BX, CX, DX, SI, 32, 0x698098d8, 7, R12)
	F(R8, R9, R10, R11, DI, 32, 0x698098d8, 7, R13)
	F(DX, AX, BX, CX, SI, 36, 0x8b44f7af, 12, R12)
	F(R11, R8, R9, R10, DI, 36, 0x8b44f7af, 12, R13)
	F(CX, DX, AX, BX, SI, 40, 0xffff5bb1, 17, R12)
	F(R10, R11, R8, R9, DI, 40, 0xffff5bb1, 17, R13)
	F(BX, CX, DX, AX, SI, 44, 0x895cd7be, 22, R12)
	F(R9, R10, R11, R8, DI, 44, 0x895cd7be, 22, R13)
	F(AX, BX, CX, DX, SI, 48, 0x6b901122, 7, R12)
	F(R8, R9, R10, R11, DI, 48, 0x6b901122, 7, R13)
	F(DX, AX, BX, CX, SI, 52, 0xfd987193, 12, R12)
	F(R11, R8, R9, R10, DI, 52, 0xfd987193, 12, R13)
	F(CX, DX, AX, BX, SI, 56, 0xa679438e, 17, R12)
	F(R10, R11, R8, R9, DI, 56, 0xa679438e, 17, R13)
	F(BX, CX, DX, AX, SI, 60, 0x49b40821, 22, R12)
	F(R9, R10, R11, R8, DI, 60, 0x49b40821, 22, R13)

	G(AX, BX, CX, DX, SI, 4, 0xf61e2562, 5, R12)
	G(R8, R9, R10, R11, DI, 4, 0xf61e2562, 5, R13)
	G(DX, AX, BX, CX, SI, 24, 0xc040b340, 9, R12)
	G(R11, R8, R9, R10, DI, 24, 0xc040b340, 9, R13)
	G(CX, DX, AX, BX, SI, 44, 0x265e5a51, 14, R12)
	G(R10, R11, R8, R9, DI, 44, 0x265e5a51, 14, R13)
	G(BX, CX, DX, AX, SI, 0, 0xe9b6c7aa, 20, R12)
	G(R9, R10, R11, R8, DI, 0, 0xe9b6c7aa, 20, R13)
	G(AX, BX, CX, DX, SI, 20, 0xd62f105d, 5, R12)
	G(R8, R9, R10, R11, DI, 20, 0xd62f105d, 5, R13)
	G(DX, AX, BX, CX, SI, 40, 0x02441453, 9, R12)
	G(R11, R8, R9, R10, DI, 40, 0x02441453, 9, R13)
	G(CX, DX, AX, BX, SI, 60, 0xd8a1e681, 14, R12)
	G(R10, R11, R8, R9, DI, 60, 0xd8a1e681, 14, R13)
	G(BX, CX, DX, AX, SI, 16, 0xe7d3fbc8, 20, R12)
	G(R9, R10, R11, R8, DI, 16, 0xe7d3fbc8, 20, R13)
	G(AX, BX, CX, DX, SI, 36, 0x21e1cde6, 5, R12)
	G(R8, R9, R10, R11, DI, 36, 0x21e1cde6, 5, R13)
	G(DX, AX, BX, CX, SI, 56, 0xc33707d6, 9, R12)
	G(R11, R8, R9, R10, DI, 56, 0xc33707d6, 9, R13)
	G(CX, DX, AX, BX, SI, 12, 0xf4d50d87, 14, R12)
	G(R10, R11, R8, R9, DI, 12, 0xf4d50d87, 14, R13)
	G(BX, CX, DX, AX, SI, 32, 0x455a14ed, 20, R12)
	G(R9, R10, R11, R8, DI, 32, 0x455a14ed, 20, R13)
	G(AX, BX, CX, DX, SI, 52, 0xa9e3e905, 5, R12)
	G(R8, R9, R10, R11, DI, 52, 0xa9e3e905, 5, R13)
	G(DX, AX, BX, CX, SI, 8, 0xfcefa3f8, 9, R12)
	G(R11, R8, R9, R10, DI, 8, 0xfcefa3f8, 9, R13)
	G(CX, DX, AX, BX, SI, 28, 0x676f02d9, 14, R12)
	G(R10, R11, R8, R9, DI, 28, 0x676f02d9, 14, R13)
	G(BX, CX, DX, AX, SI, 48, 0x8d2a4c8a, 20, R12)
	G(R9, R10, R11, R8, DI, 48, 0x8d2a4c8a, 20, R13)

	H(AX, BX, CX, DX, SI, 20, 0xfffa3942, 4, R12)
	H(R8, R9, R10, R11, DI, 20, 0xfffa3942, 4, R13)
	H(DX, AX, BX, CX, SI, 32, 0x8771f681, 11, R12)
	H(R11, R8, R9, R10, DI, 32, 0x8771f681, 11, R13)
	H(CX, DX, AX, BX, SI, 44, 0x6d9d6122, 16, R12)
	H(R10, R11, R8, R9, DI, 44, 0x6d9d6122, 16, R13)
	H(BX, CX, DX, AX, SI, 56, 0xfde5380c, 23, R12)
	H(R9, R10, R11, R8, DI, 56, 0xfde5380c, 23, R13)
	H(AX, BX, CX, DX, SI, 4, 0xa4beea44, 4, R12)
	H(R8, R9, R10, R11, DI, 4, 0xa4beea44, 4, R13)
	H(DX, AX, BX, CX, SI, 16, 0x4bdecfa9, 11, R12)
	H(R11, R8, R9, R10, DI, 16, 0x4bdecfa9, 11, R13)
	H(CX, DX, AX, BX, SI, 28, 0xf6bb4b60, 16, R12)
	H(R10, R11, R8, R9, DI, 28, 0xf6bb4b60, 16, R13)
	H(BX, CX, DX, AX, SI, 40, 0xbebfbc70, 23, R12)
	H(R9, R10, R11, R8, DI, 40, 0xbebfbc70, 23, R13)
	H(AX, BX, CX, DX, SI, 52, 0x289b7ec6, 4, R12)
	H(R8, R9, R10, R11, DI, 52, 0x289b7ec6, 4, R13)
	H(DX, AX, BX, CX, SI, 0, 0xeaa127fa, 11, R12)
	H(R11, R8, R9, R10, DI, 0, 0xeaa127fa, 11, R13)
	H(CX, DX, AX, BX, SI, 12, 0xd4ef3085, 16, R12)
	H(R10, R11, R8, R9, DI, 12, 0xd4ef3085, 16, R13)
	H(BX, CX, DX, AX, SI, 24, 0x04881d05, 23, R12)
	H(R9, R10, R11, R8, DI, 24, 0x04881d05, 23, R13)
	H(AX, BX, CX, DX, SI, 36, 0xd9d4d039, 4, R12)
	H(R8, R9, R10, R11, DI, 36, 0xd9d4d039, 4, R13)
	H(DX, AX, BX, CX, SI, 48, 0xe6db99e5, 11, R12)
	H(R11, R8, R9, R10, DI, 48, 0xe6db99e5, 11, R13)
	H(CX, DX, AX, BX, SI, 60, 0x1fa27cf8, 16, R12)
	H(R10, R11, R8, R9, DI, 60, 0x1fa27cf8, 16, R13)
	H(BX, CX, DX, AX, SI, 8, 0xc4ac5665, 23, R12)
	H(R9, R10, R11, R8, DI, 8, 0xc4ac5665, 23, R13)

	I(AX, BX, CX, DX, SI, 0, 0xf4292244, 6, R12)
	I(R8, R9, R10, R11, DI, 0, 0xf4292244, 6, R13)
	I(DX, AX, BX, CX, SI, 28, 0x432aff97, 10, R12)
	I(R11, R8, R9, R10, DI, 28, 0x432aff97, 10, R13)
	I(CX, DX, AX, BX, SI, 56, 0xab9423a7, 15, R12)
	I(R10, R11, R8, R9, DI, 56, 0xab9423a7, 15, R13)
	I(BX, CX, DX, AX, SI, 20, 0xfc93a039, 21, R12)
	I(R9, R10, R11, R8, DI, 20, 0xfc93a039, 21, R13)
	I(AX, BX, CX, DX, SI, 48, 0x655b59c3, 6, R12)
	I(R8, R9, R10, R11, DI, 48, 0x655b59c3, 6, R13)
	I(DX, AX, BX, CX, SI, 12, 0x8f0ccc92, 10, R12)
	I(R11, R8, R9, R10, DI, 12, 0x8f0ccc92, 10, R13)
	I(CX, DX, AX, BX, SI, 40, 0xffeff47d, 15, R12)
	I(R10, R11, R8, R9, DI, 40, 0xffeff47d, 15, R13)
	I(BX, CX, DX, AX, SI, 4, 0x85845dd1, 21, R12)
	I(R9, R10, R11, R8, DI, 4, 0x85845dd1, 21, R13)
	I(AX, BX, CX, DX, SI, 32, 0x6fa87e4f, 6, R12)
	I(R8, R9, R10, R11, DI, 32, 0x6fa87e4f, 6, R13)
	I(DX, AX, BX, CX, SI, 60, 0xfe2ce6e0, 10, R12)
	I(R11, R8, R9, R10, DI, 60, 0xfe2ce6e0, 10, R13)
	I(CX, DX, AX, BX, SI, 24, 0xa3014314, 15, R12)
	I(R10, R11, R8, R9, DI, 24, 0xa3014314, 15, R13)
	I(BX, CX, DX, AX, SI, 52, 0x4e0811a1, 21, R12)
	I(R9, R10, R11, R8, DI, 52, 0x4e0811a1, 21, R13)
	I(AX, BX, CX, DX, SI, 16, 0xf7537e82, 6, R12)
	I(R8, R9, R10, R11, DI, 16, 0xf7537e82, 6, R13)
	I(DX, AX, BX, CX, SI, 44, 0xbd3af235, 10, R12)
	I(R11, R8, R9, R10, DI, 44, 0xbd3af235, 10, R13)
	I(CX, DX, AX, BX, SI, 8, 0x2ad7d2bb, 15, R12)
	I(R10, R11, R8, R9, DI, 8, 0x2ad7d2bb, 15, R13)
	I(BX, CX, DX, AX, SI, 36, 0xeb86d391, 21, R12)
	I(R9, R10, R11, R8, DI, 36, 0xeb86d391, 21, R13)

	ADDL 0(R15), AX
	ADDL 4(R15), BX
	ADDL 8(R15), CX
	ADDL 12(R15), DX
	ADDL 16(R15), R8
	ADDL 20(R15), R9
	ADDL 24(R15), R10
	ADDL 28(R15), R11
	MOVL AX, 0(R15)
	MOVL BX, 4(R15)
	MOVL CX, 8(R15)
	MOVL DX, 12(R15)
	MOVL R8, 16(R15)
	MOVL R9, 20(R15)
	MOVL R10, 24(R15)
	MOVL R11, 28(R15)
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ left-8(SP)
	JNZ  block

done:
	RET
