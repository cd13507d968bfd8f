#include "textflag.h"

// MD5 of eight streams at one time (RFC 1321): lane i of each register is stream i's.
//
// The state A, B, C and D is in Y0 to Y3, the sixteen words of a block in Y16 to Y31; Y4 to Y15 are for what comes
// between. Blocks are read as they are in memory, eight words of a stream in a register, and turned over, so that
// a register has the same word of all streams.

// The four functions, as VPTERNLOGD takes them: the bit of the result for D, C and B, which are 4, 2 and 1 of its number.
#define F $0xD8
#define G $0xAC
#define H $0x96
#define I $0x63

// STEP is a = b + (a + fn(b, c, d) + word + k) <<< s. Nothing but fn and what is behind it waits for b, which is the latest.
#define STEP(fn, a, b, c, d, word, k, s) \
	VPADDD.BCST (4*k)(AX), a, a \
	VMOVDQA32   d, Y4           \
	VPADDD      word, a, a      \
	VPTERNLOGD  fn, b, c, Y4    \
	VPADDD      Y4, a, a        \
	VPROLD      $s, a, a        \
	VPADDD      b, a, a

// PAIR reads eight words of two streams, and has lo with words 0, 1, 4 and 5 of both in turn, hi with 2, 3, 6 and 7.
#define PAIR(first, second, at, lo, hi) \
	VMOVDQU32  at(first)(DX*1), Y12       \
	VMOVDQU32  at(second)(DX*1), Y13      \
	VPUNPCKLDQ Y13, Y12, lo               \
	VPUNPCKHDQ Y13, Y12, hi

// WORDS reads eight words of all streams.
#define WORDS(at, w0, w1, w2, w3, w4, w5, w6, w7) \
	PAIR(R8, R9, at, Y4, Y5)       \
	PAIR(R10, R11, at, Y6, Y7)     \
	PAIR(R12, R13, at, Y8, Y9)     \
	PAIR(SI, DI, at, Y10, Y11)     \
	VPUNPCKLQDQ Y6, Y4, Y12        \
	VPUNPCKHQDQ Y6, Y4, Y13        \
	VPUNPCKLQDQ Y7, Y5, Y14        \
	VPUNPCKHQDQ Y7, Y5, Y15        \
	VPUNPCKLQDQ Y10, Y8, Y4        \
	VPUNPCKHQDQ Y10, Y8, Y5        \
	VPUNPCKLQDQ Y11, Y9, Y6        \
	VPUNPCKHQDQ Y11, Y9, Y7        \
	VSHUFI32X4  $0, Y4, Y12, w0    \
	VSHUFI32X4  $0, Y5, Y13, w1    \
	VSHUFI32X4  $0, Y6, Y14, w2    \
	VSHUFI32X4  $0, Y7, Y15, w3    \
	VSHUFI32X4  $3, Y4, Y12, w4    \
	VSHUFI32X4  $3, Y5, Y13, w5    \
	VSHUFI32X4  $3, Y6, Y14, w6    \
	VSHUFI32X4  $3, Y7, Y15, w7

// func blocks8(state *[4][8]uint32, data *[8]*byte, blocks int)
TEXT ·blocks8(SB), NOSPLIT, $0-24
	MOVQ state+0(FP), BX
	MOVQ data+8(FP), CX
	MOVQ 0(CX), R8
	MOVQ 8(CX), R9
	MOVQ 16(CX), R10
	MOVQ 24(CX), R11
	MOVQ 32(CX), R12
	MOVQ 40(CX), R13
	MOVQ 48(CX), SI
	MOVQ 56(CX), DI
	MOVQ blocks+16(FP), CX
	LEAQ constants<>(SB), AX
	XORQ DX, DX

	VMOVDQU32 0(BX), Y0
	VMOVDQU32 32(BX), Y1
	VMOVDQU32 64(BX), Y2
	VMOVDQU32 96(BX), Y3
	TESTQ     CX, CX
	JLE       done

block:
	WORDS(0, Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23)
	WORDS(32, Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31)


	STEP(F, Y0, Y1, Y2, Y3, Y16, 0, 7)
	STEP(F, Y3, Y0, Y1, Y2, Y17, 1, 12)
	STEP(F, Y2, Y3, Y0, Y1, Y18, 2, 17)
	STEP(F, Y1, Y2, Y3, Y0, Y19, 3, 22)
	STEP(F, Y0, Y1, Y2, Y3, Y20, 4, 7)
	STEP(F, Y3, Y0, Y1, Y2, Y21, 5, 12)
	STEP(F, Y2, Y3, Y0, Y1, Y22, 6, 17)
	STEP(F, Y1, Y2, Y3, Y0, Y23, 7, 22)
	STEP(F, Y0, Y1, Y2, Y3, Y24, 8, 7)
	STEP(F, Y3, Y0, Y1, Y2, Y25, 9, 12)
	STEP(F, Y2, Y3, Y0, Y1, Y26, 10, 17)
	STEP(F, Y1, Y2, Y3, Y0, Y27, 11, 22)
	STEP(F, Y0, Y1, Y2, Y3, Y28, 12, 7)
	STEP(F, Y3, Y0, Y1, Y2, Y29, 13, 12)
	STEP(F, Y2, Y3, Y0, Y1, Y30, 14, 17)
	STEP(F, Y1, Y2, Y3, Y0, Y31, 15, 22)

	STEP(G, Y0, Y1, Y2, Y3, Y17, 16, 5)
	STEP(G, Y3, Y0, Y1, Y2, Y22, 17, 9)
	STEP(G, Y2, Y3, Y0, Y1, Y27, 18, 14)
	STEP(G, Y1, Y2, Y3, Y0, Y16, 19, 20)
	STEP(G, Y0, Y1, Y2, Y3, Y21, 20, 5)
	STEP(G, Y3, Y0, Y1, Y2, Y26, 21, 9)
	STEP(G, Y2, Y3, Y0, Y1, Y31, 22, 14)
	STEP(G, Y1, Y2, Y3, Y0, Y20, 23, 20)
	STEP(G, Y0, Y1, Y2, Y3, Y25, 24, 5)
	STEP(G, Y3, Y0, Y1, Y2, Y30, 25, 9)
	STEP(G, Y2, Y3, Y0, Y1, Y19, 26, 14)
	STEP(G, Y1, Y2, Y3, Y0, Y24, 27, 20)
	STEP(G, Y0, Y1, Y2, Y3, Y29, 28, 5)
	STEP(G, Y3, Y0, Y1, Y2, Y18, 29, 9)
	STEP(G, Y2, Y3, Y0, Y1, Y23, 30, 14)
	STEP(G, Y1, Y2, Y3, Y0, Y28, 31, 20)

	STEP(H, Y0, Y1, Y2, Y3, Y21, 32, 4)
	STEP(H, Y3, Y0, Y1, Y2, Y24, 33, 11)
	STEP(H, Y2, Y3, Y0, Y1, Y27, 34, 16)
	STEP(H, Y1, Y2, Y3, Y0, Y30, 35, 23)
	STEP(H, Y0, Y1, Y2, Y3, Y17, 36, 4)
	STEP(H, Y3, Y0, Y1, Y2, Y20, 37, 11)
	STEP(H, Y2, Y3, Y0, Y1, Y23, 38, 16)
	STEP(H, Y1, Y2, Y3, Y0, Y26, 39, 23)
	STEP(H, Y0, Y1, Y2, Y3, Y29, 40, 4)
	STEP(H, Y3, Y0, Y1, Y2, Y16, 41, 11)
	STEP(H, Y2, Y3, Y0, Y1, Y19, 42, 16)
	STEP(H, Y1, Y2, Y3, Y0, Y22, 43, 23)
	STEP(H, Y0, Y1, Y2, Y3, Y25, 44, 4)
	STEP(H, Y3, Y0, Y1, Y2, Y28, 45, 11)
	STEP(H, Y2, Y3, Y0, Y1, Y31, 46, 16)
	STEP(H, Y1, Y2, Y3, Y0, Y18, 47, 23)

	STEP(I, Y0, Y1, Y2, Y3, Y16, 48, 6)
	STEP(I, Y3, Y0, Y1, Y2, Y23, 49, 10)
	STEP(I, Y2, Y3, Y0, Y1, Y30, 50, 15)
	STEP(I, Y1, Y2, Y3, Y0, Y21, 51, 21)
	STEP(I, Y0, Y1, Y2, Y3, Y28, 52, 6)
	STEP(I, Y3, Y0, Y1, Y2, Y19, 53, 10)
	STEP(I, Y2, Y3, Y0, Y1, Y26, 54, 15)
	STEP(I, Y1, Y2, Y3, Y0, Y17, 55, 21)
	STEP(I, Y0, Y1, Y2, Y3, Y24, 56, 6)
	STEP(I, Y3, Y0, Y1, Y2, Y31, 57, 10)
	STEP(I, Y2, Y3, Y0, Y1, Y22, 58, 15)
	STEP(I, Y1, Y2, Y3, Y0, Y29, 59, 21)
	STEP(I, Y0, Y1, Y2, Y3, Y20, 60, 6)
	STEP(I, Y3, Y0, Y1, Y2, Y27, 61, 10)
	STEP(I, Y2, Y3, Y0, Y1, Y18, 62, 15)
	STEP(I, Y1, Y2, Y3, Y0, Y25, 63, 21)

	VPADDD    0(BX), Y0, Y0
	VPADDD    32(BX), Y1, Y1
	VPADDD    64(BX), Y2, Y2
	VPADDD    96(BX), Y3, Y3
	VMOVDQU32 Y0, 0(BX)
	VMOVDQU32 Y1, 32(BX)
	VMOVDQU32 Y2, 64(BX)
	VMOVDQU32 Y3, 96(BX)
	ADDQ      $64, DX
	DECQ      CX
	JNZ       block

done:
	VZEROUPPER
	RET

// The constants of the steps: the first 32 bits of the fraction of |sin(1)|, |sin(2)|, ...
DATA constants<>+0(SB)/4, $0xd76aa478
DATA constants<>+4(SB)/4, $0xe8c7b756
DATA constants<>+8(SB)/4, $0x242070db
DATA constants<>+12(SB)/4, $0xc1bdceee
DATA constants<>+16(SB)/4, $0xf57c0faf
DATA constants<>+20(SB)/4, $0x4787c62a
DATA constants<>+24(SB)/4, $0xa8304613
DATA constants<>+28(SB)/4, $0xfd469501
DATA constants<>+32(SB)/4, $0x698098d8
DATA constants<>+36(SB)/4, $0x8b44f7af
DATA constants<>+40(SB)/4, $0xffff5bb1
DATA constants<>+44(SB)/4, $0x895cd7be
DATA constants<>+48(SB)/4, $0x6b901122
DATA constants<>+52(SB)/4, $0xfd987193
DATA constants<>+56(SB)/4, $0xa679438e
DATA constants<>+60(SB)/4, $0x49b40821
DATA constants<>+64(SB)/4, $0xf61e2562
DATA constants<>+68(SB)/4, $0xc040b340
DATA constants<>+72(SB)/4, $0x265e5a51
DATA constants<>+76(SB)/4, $0xe9b6c7aa
DATA constants<>+80(SB)/4, $0xd62f105d
DATA constants<>+84(SB)/4, $0x02441453
DATA constants<>+88(SB)/4, $0xd8a1e681
DATA constants<>+92(SB)/4, $0xe7d3fbc8
DATA constants<>+96(SB)/4, $0x21e1cde6
DATA constants<>+100(SB)/4, $0xc33707d6
DATA constants<>+104(SB)/4, $0xf4d50d87
DATA constants<>+108(SB)/4, $0x455a14ed
DATA constants<>+112(SB)/4, $0xa9e3e905
DATA constants<>+116(SB)/4, $0xfcefa3f8
DATA constants<>+120(SB)/4, $0x676f02d9
DATA constants<>+124(SB)/4, $0x8d2a4c8a
DATA constants<>+128(SB)/4, $0xfffa3942
DATA constants<>+132(SB)/4, $0x8771f681
DATA constants<>+136(SB)/4, $0x6d9d6122
DATA constants<>+140(SB)/4, $0xfde5380c
DATA constants<>+144(SB)/4, $0xa4beea44
DATA constants<>+148(SB)/4, $0x4bdecfa9
DATA constants<>+152(SB)/4, $0xf6bb4b60
DATA constants<>+156(SB)/4, $0xbebfbc70
DATA constants<>+160(SB)/4, $0x289b7ec6
DATA constants<>+164(SB)/4, $0xeaa127fa
DATA constants<>+168(SB)/4, $0xd4ef3085
DATA constants<>+172(SB)/4, $0x04881d05
DATA constants<>+176(SB)/4, $0xd9d4d039
DATA constants<>+180(SB)/4, $0xe6db99e5
DATA constants<>+184(SB)/4, $0x1fa27cf8
DATA constants<>+188(SB)/4, $0xc4ac5665
DATA constants<>+192(SB)/4, $0xf4292244
DATA constants<>+196(SB)/4, $0x432aff97
DATA constants<>+200(SB)/4, $0xab9423a7
DATA constants<>+204(SB)/4, $0xfc93a039
DATA constants<>+208(SB)/4, $0x655b59c3
DATA constants<>+212(SB)/4, $0x8f0ccc92
DATA constants<>+216(SB)/4, $0xffeff47d
DATA constants<>+220(SB)/4, $0x85845dd1
DATA constants<>+224(SB)/4, $0x6fa87e4f
DATA constants<>+228(SB)/4, $0xfe2ce6e0
DATA constants<>+232(SB)/4, $0xa3014314
DATA constants<>+236(SB)/4, $0x4e0811a1
DATA constants<>+240(SB)/4, $0xf7537e82
DATA constants<>+244(SB)/4, $0xbd3af235
DATA constants<>+248(SB)/4, $0x2ad7d2bb
DATA constants<>+252(SB)/4, $0xeb86d391
GLOBL constants<>(SB), RODATA|NOPTR, $256
