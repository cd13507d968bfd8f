//go:build planted

package main

// clocksMove says whether processes of this build have clocks that a file moves.
const clocksMove = true
