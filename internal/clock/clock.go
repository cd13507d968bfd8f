// Package clock is the machine's clock, as those ask it who hand out times or compare times of others with
// their own: stamps of writes, what is ahead of the present, what has come to its end, what may be forgotten.
// How long something has taken is not its concern.
//
// In a build with the tag `planted` a file moves the clock of a process, so that what clusters make of
// clocks that differ or jump can be tried: see clock_planted.go. In every other build Now is time.Now.
package clock
