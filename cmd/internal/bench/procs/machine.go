package procs

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Own is the processor time that this process has used.
func Own() Usage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return Usage{} // it can't fail on Linux
	}
	return Usage{User: time.Duration(u.Utime.Nano()), System: time.Duration(u.Stime.Nano())}
}

// Since is the processor time since an earlier look at the same process.
func (u Usage) Since(before Usage) Usage {
	return Usage{User: u.User - before.User, System: u.System - before.System}
}

// MachineLoad is the load average of the last minute, 0 where nobody says.
func MachineLoad() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// Kernel is the system's, "" where nobody says.
func Kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return "Linux " + strings.TrimSpace(string(text))
}
