package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"martlet/internal/handover"
	"martlet/internal/httpapi"
)

const (
	successorWait = time.Minute      // in which a successor has to serve
	checkWait     = 30 * time.Second // for the configuration to be checked by the program as its file is now
)

// errReplaced is the cause of the end of a process that becomes the program as its file is now.
var errReplaced = errors.New("to be started again")

// errFirst is why the first process of a container keeps its sockets.
var errFirst = errors.New("this is process 1, with which its container ends: start the container again")

// onUSR2 has a function tried at each SIGUSR2. The context that it returns ends with a cause as soon as one attempt
// returns it without an error; what fails is logged, and the process goes on as it is. The function that it returns waits for
// an attempt that is under way: a successor that does not serve is ended by it, or by nobody.
func onUSR2(parent context.Context, log *slog.Logger, what string, cause error, try func(context.Context) error) (context.Context, func()) {
	ctx, end := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	var attempts sync.WaitGroup
	attempts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if err := try(ctx); err != nil {
				log.LogAttrs(ctx, slog.LevelError, what+" failed; this process goes on", slog.Any("err", err))
				continue
			}
			end(cause)
			return
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		end(nil)
		attempts.Wait()
	}
}

// handingOver gives the sockets of a process to a new one of the same program at SIGUSR2, and ends the context when that
// one serves.
func handingOver(parent context.Context, log *slog.Logger, self handover.Program, sockets map[string]net.Listener) (context.Context, func()) {
	return onUSR2(parent, log, "handing over", httpapi.ErrHandedOver, func(ctx context.Context) error {
		if os.Getpid() == 1 {
			return errFirst
		}
		pid, err := self.Start(ctx, sockets, successorWait)
		if err == nil {
			log.LogAttrs(ctx, slog.LevelInfo, "handed over", slog.Int("to_process", pid), slog.String("program", self.Path))
		}
		return err
	})
}

// replacing ends the context at SIGUSR2, when the program as its file is now finds the configuration good: what a device
// has belongs to one process at a time, so a successor can't be started before.
func replacing(parent context.Context, log *slog.Logger, self handover.Program, file string) (context.Context, func()) {
	return onUSR2(parent, log, "starting again", errReplaced, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, checkWait)
		defer cancel()
		out, err := exec.CommandContext(ctx, self.Path, "config", "check", file).CombinedOutput() //nolint:gosec // it is this program
		if err != nil {
			return fmt.Errorf("%s config check %s: %w: %s", self.Path, file, err, strings.TrimSpace(string(out)))
		}
		log.LogAttrs(ctx, slog.LevelInfo, "starting again", slog.String("program", self.Path))
		return nil
	})
}

// replace makes this process the program as its file is now, unless it was told meanwhile to end: what the signal said
// would be forgotten with this program, and the new one would serve on.
func replace(ctx context.Context, self handover.Program) error {
	signal.Reset(os.Interrupt, syscall.SIGTERM) // what comes from here on ends the process at once: it has nothing open
	select {
	case <-ctx.Done():
		return nil
	default:
		return self.Replace()
	}
}
