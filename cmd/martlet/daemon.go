package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/cmd/internal/processors"
	"martlet/internal/handover"
)

func newProxy() *cobra.Command {
	return newDaemon("proxy", "Run a proxy: what clients speak to", func(ctx context.Context, file string) error {
		c, err := config.LoadProxy(file)
		if err != nil {
			return err
		}
		self, err := handover.Self()
		if err != nil {
			return err
		}
		return serve(ctx, c.Log, func(ctx context.Context, o node.Options) error {
			p, err := node.OpenProxy(c, o) //nolint:contextcheck // what waits in it has a limit of its own
			if err != nil {
				return notStarted(ctx, o.Log, err)
			}
			ctx, stop := handingOver(ctx, o.Log, self, p.Listeners())
			defer stop()
			return runReady(ctx, o, p)
		})
	})
}

func newStorage() *cobra.Command {
	return newDaemon("storage", "Run a storage node: account, container and object servers over its devices", func(ctx context.Context, file string) error {
		c, err := config.LoadStorage(file)
		if err != nil {
			return err
		}
		self, err := handover.Self()
		if err != nil {
			return err
		}
		again := false
		err = serve(ctx, c.Log, func(ctx context.Context, o node.Options) error {
			s, err := node.OpenStorage(c, o) //nolint:contextcheck // what waits in it has a limit of its own
			if err != nil {
				return notStarted(ctx, o.Log, err)
			}
			processors.Set(o.Log, s.Devices())
			ctx, stop := replacing(ctx, o.Log, self, file)
			defer stop()
			err = runReady(ctx, o, s)
			again = errors.Is(context.Cause(ctx), errReplaced)
			return err
		})
		if err != nil || !again {
			return err
		}
		return replace(ctx, self)
	})
}

func newDaemon(name, short string, run func(ctx context.Context, file string) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   name + " --config FILE",
		Short: short,
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage(errors.New("--config is missing; see " + c.CommandPath() + " --help"))
			}
			return run(c.Context(), file)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the configuration `FILE`")
	return c
}

// daemon is what package node opens.
type daemon interface {
	Run(ctx context.Context) error
	Close() error // where it was not run
}

// serve opens the log and a registry, takes what a predecessor has left, and has run open the process itself and run it
// until ctx ends.
func serve(ctx context.Context, to config.Log, run func(context.Context, node.Options) error) (err error) {
	log, logFile, err := node.OpenLog(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	warnPlanted(log)
	inherited, err := handover.Take()
	if err != nil {
		return notStarted(ctx, log, err)
	}
	defer inherited.Close()
	registry := newRegistry()
	return run(ctx, node.Options{Log: log, Registry: registry, Gatherer: registry, Version: versionText(), Inherited: inherited})
}

func notStarted(ctx context.Context, log *slog.Logger, err error) error {
	log.LogAttrs(ctx, slog.LevelError, "not started", slog.Any("err", err))
	return err
}

// runReady tells whoever waits for it that a process serves, its sockets being open, and runs it.
func runReady(ctx context.Context, o node.Options, d daemon) error {
	if err := o.Inherited.Ready(); errors.Is(err, handover.ErrStays) {
		return errors.Join(notStarted(ctx, o.Log, err), d.Close())
	} else if err != nil {
		o.Log.LogAttrs(ctx, slog.LevelWarn, "nobody could be told that this process serves", slog.Any("err", err))
	}
	err := d.Run(ctx)
	if err != nil {
		o.Log.LogAttrs(ctx, slog.LevelError, "failed", slog.Any("err", err))
	}
	return err
}

// newRegistry returns a registry that knows the process itself already.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
