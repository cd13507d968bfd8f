//go:build !amd64

package md5lanes

// Each stream goes by itself.
const most, fewestWide = 1, width + 1

func blocks8(*[4][width]uint32, *[width]*byte, int) { panic("md5lanes: there are no lanes") }

func blocks2(*[2][4]uint32, *byte, *byte, int) { panic("md5lanes: there are no lanes") }
