package md5lanes

import "golang.org/x/sys/cpu"

// most is how many streams go together here, and fewestWide from how many on it is with blocks8. That has 32 registers of
// eight lanes, rotation, and any function of three bits in one step; where a processor has these, three streams are worth them.
var most, fewestWide = lanesOf(cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL)

func lanesOf(wide bool) (most, fewestWide int) {
	if wide {
		return width, 3
	}
	return 2, width + 1
}

// blocks8 takes blocks of 64 bytes of each of eight streams into their states: state[j][i] is word j of stream i. It
// can't be interrupted: mostBlocks bounds what is asked of it.
//
//go:noescape
func blocks8(state *[4][width]uint32, data *[width]*byte, blocks int)

// blocks2 is that of two streams, each of whose states is in one piece.
//
//go:noescape
func blocks2(state *[2][4]uint32, first, second *byte, blocks int)
