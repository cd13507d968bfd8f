// Package processors sets how many threads of a process with devices run Go code at one time.
//
// There are as many places for that as processors, where nothing else is said, and a goroutine that waits for a disk in a system call
// keeps its place until the runtime takes it away, which it looks for each 20 µs to 10 ms. A sync takes a millisecond or two, and a device has
// one under way nearly all the time: with as many devices as processors all places may be taken by goroutines that wait, while others
// could run and the processors do nothing. So each device gets a place of its own.
//
// More places cost that the garbage collector marks on a quarter of them at one time, for as much less long, and that the kernel
// rather than the runtime divides the processors when all are busy. So there is a bound.
package processors

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
)

// perProcessor is how many places for devices there are at most, for each processor.
const perProcessor = 3

// Places returns how many threads run Go code at one time in a process that may use so many processors and has so many
// devices.
func Places(processors, devices int) int {
	return processors + min(max(devices, 0), perProcessor*processors)
}

// Set makes room for devices beside the processors that this process may use: those of the machine that it may run on, or what its control
// group lets it use at this moment, if that is less. GOMAXPROCS in the environment is what the operator wants instead, and stays.
func Set(log *slog.Logger, devices int) {
	if n, err := strconv.Atoi(os.Getenv("GOMAXPROCS")); err == nil && n > 0 { // what the runtime takes
		return
	}
	runtime.SetDefaultGOMAXPROCS()
	usable := runtime.GOMAXPROCS(0)
	places := Places(usable, devices)
	if places == usable {
		return // so that the runtime goes on following the control group
	}
	runtime.GOMAXPROCS(places)
	log.Info("threads that run Go code at one time", slog.Int("processors", usable), slog.Int("devices", devices), slog.Int("threads", places))
}
